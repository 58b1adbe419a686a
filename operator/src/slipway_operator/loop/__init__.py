"""Which passes are made, when, and by which replica."""
