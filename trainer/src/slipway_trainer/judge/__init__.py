"""The server of a judge model, before it judges: whose key it takes, and whether it knows the model."""
