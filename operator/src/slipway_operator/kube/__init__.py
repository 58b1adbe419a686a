"""All Kubernetes I/O: calls to the API server and to pods, with errors in our own words."""
