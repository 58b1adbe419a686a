"""Slipway's own routes beside those of vLLM, and the chat page."""
