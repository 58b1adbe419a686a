"""What a plan or an endpoint asks for and no manifest can say."""

from __future__ import annotations


class ManifestError(ValueError):
    """The message names the field, its value and the fix; `reason` is the CamelCase reason of a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
