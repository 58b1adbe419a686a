"""Slipway's contract: resources, plan, lifecycle, gates, artifact manifest."""
