"""Packages that only some settings need, and that an installation may lack."""

from __future__ import annotations

import importlib.util

from slipway_trainer.step.errors import BadConfig


def require(package: str, *, by: str, instead: str) -> None:
    """Raises BadConfig when a package is not installed.

    Args:
        package: as it is imported and installed.
        by: the field that needs it, with its value.
        instead: what needs no such package.
    """
    if importlib.util.find_spec(package) is None:
        raise BadConfig(f"{by} needs {package}, which is not installed: pip install {package}, or use {instead}")
