"""The routes of Slipway beside those of vLLM, and the chat page."""
