"""What every step has: its frame, fence, signals, files, progress and errors, and how its process starts."""
