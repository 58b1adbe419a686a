"""What stands in front of the model: who may ask what, how much at once, and how a server ends."""
