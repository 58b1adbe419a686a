"""What processes ask of the machine that they are on: what of it is theirs, durable files, an end with the parent."""
