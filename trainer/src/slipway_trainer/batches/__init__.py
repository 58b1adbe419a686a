"""From prepared tokens to the rows of each optimizer step, in an order that is a function of the seed."""
