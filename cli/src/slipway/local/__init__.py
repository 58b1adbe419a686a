"""The local executor: stages as processes, endpoints as a relay with servers behind it, state in files."""
