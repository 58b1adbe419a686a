"""The contract of Slipway: resources, plan, lifecycle, gate and artifact. Pure: no torch, no Kubernetes, no I/O."""

__version__ = "0.1.0"
