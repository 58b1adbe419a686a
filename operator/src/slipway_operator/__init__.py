"""The operator: what runs with `slipway run` on one machine, as Jobs and Deployments on a cluster.

`watch` tells the `cache` and the queue of the `loop` what happened; `runs/reconcile` and `endpoints/reconcile` are the
passes; `kube` is all that talks to the cluster, and `manifests` holds one pure builder a file.
"""

__version__ = "0.1.0"
