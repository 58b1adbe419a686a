"""What every step has: its frame, fence, signals, files, progress and errors, how its process starts and ends with
another, and what the machine has for it."""
