"""The forms that rows have in the wild, and what each becomes here: a text, a conversation, a prompt, a preference."""
