"""Slipway's training stages: prepare, train, evaluate, export."""
