"""What watches told and what our own calls returned: all that a pass reads."""
