"""Checkpoints, complete or absent, and going on from one with the same or another number of processes."""
