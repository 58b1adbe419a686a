"""vLLM: how it is told to run, and whether it answers."""
