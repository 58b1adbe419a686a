"""What the passes over runs and over endpoints have in common."""
