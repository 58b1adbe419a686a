"""Runs on this machine: admitted, executed as processes, and shown to a person."""
