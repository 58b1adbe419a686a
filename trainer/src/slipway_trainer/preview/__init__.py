"""What a plan would learn, shown before anything is trained."""
