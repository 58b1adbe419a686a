"""How sure a figure is: bounds of a metric, and of how much worse one model is than another on the same rows."""
