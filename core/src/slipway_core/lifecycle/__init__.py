"""The life of a run, as one pure function: `step`."""
