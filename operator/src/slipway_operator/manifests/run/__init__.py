"""What is made for a run: its Jobs, its records, and what it tells its endpoint."""
