"""Slipway's model server: vLLM with /chat, access control, limits and graceful drain."""

__version__ = "0.1.0"
