"""Slipway's model server: vLLM with /chat, access control, limits and graceful drain."""
