"""From a file of this machine to a run in a cluster."""
