"""What is read of the files that a plan names: rows checked one by one, encoded, and held against what is held out."""
