"""A judge model: what it is asked of answers, what it says, and what that comes to."""
