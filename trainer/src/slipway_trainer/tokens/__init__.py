"""From text and conversations to tokens."""
