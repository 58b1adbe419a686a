"""YAML files read with the line of each mistake, and the CRDs, schema and reference that are generated."""
