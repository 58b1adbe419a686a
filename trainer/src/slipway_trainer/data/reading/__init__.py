"""From a data file to blocks of whole rows, and from a block to its rows: each kind of file in a module of its own."""
