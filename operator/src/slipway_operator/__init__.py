"""The operator: what runs with `slipway run` on one machine, as Jobs and Deployments on a cluster.

Kopf is the edge (`edge.py`), `reconcile_run.py` and `reconcile_endpoint.py` are the middle, `cluster.py` is the one
module that talks to the API server, and `manifests/` holds one pure builder a file.
"""

__version__ = "0.1.0"
