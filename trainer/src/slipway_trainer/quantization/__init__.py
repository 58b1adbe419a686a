"""The artifact with its linear layers in 8 or 4 bits, as it is then judged and served."""
