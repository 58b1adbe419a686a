"""What every step has: its frame, fence, signals, errors and progress, and how its process starts and ends."""
