"""The step publish: the verdict to the trackers, and a model that passed to the hub."""
