"""From data to a live, gated chat API with one command."""
