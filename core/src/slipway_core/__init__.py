"""The contract of Slipway: resources, protocol, plan, and the lives of a run and of an endpoint. Pure: no torch, no
Kubernetes, no I/O but to read and hash a model's folder."""

__version__ = "0.1.0"
