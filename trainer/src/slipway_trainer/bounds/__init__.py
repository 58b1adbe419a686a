"""How sure a figure is that is made of a sample."""
