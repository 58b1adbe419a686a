"""Fetching: models and data of an object store or of the hub become files of this machine, for trainer and server."""

__version__ = "0.1.0"
