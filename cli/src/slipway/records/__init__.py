"""What a run has left, read as a whole: what its report, a comparison and its lineage are made from."""
