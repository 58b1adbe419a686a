"""Runs and endpoints in a namespace of a Kubernetes cluster, reached through kubectl."""
