"""Short-lived pods of the command line, for the files in a workspace claim."""
