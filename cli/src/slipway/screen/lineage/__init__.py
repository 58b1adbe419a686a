"""A lineage as people see it."""
