"""Talking to a served model."""
