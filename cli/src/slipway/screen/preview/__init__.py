"""What a plan would learn, at the terminal and as a page."""
