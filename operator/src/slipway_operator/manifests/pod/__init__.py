"""Parts of a pod that several manifests have."""
