"""A preview whose texts can be printed."""

from __future__ import annotations

from slipway.screen.visible import visible
from slipway_core.protocol.preview import Preview


def printable(preview: Preview) -> Preview:
    """Returns a preview whose rows and names of files steer no terminal and turn no text around."""
    return Preview.model_validate(visible(preview.model_dump(by_alias=True)), by_alias=True, by_name=False)
