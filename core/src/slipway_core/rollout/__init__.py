"""The life of an endpoint, as one pure function: `step`."""
