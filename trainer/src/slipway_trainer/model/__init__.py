"""The model of each stage, and what is done to one as a whole: adapters, merging, precision, loss, lineage."""
