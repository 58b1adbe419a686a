"""Endpoints on this machine: a daemon with the port, and a server behind it for each version."""
