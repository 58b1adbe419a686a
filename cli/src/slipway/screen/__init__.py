"""What a person sees: tables, lines, curves and last words."""
