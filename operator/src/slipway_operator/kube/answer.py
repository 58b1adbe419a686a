"""Answers of the API server as objects, without a garbage collector that looks through them while they are made."""

from __future__ import annotations

import gc
import json
from typing import Any


def decoded(content: bytes) -> Any:
    """Returns what the JSON of an answer says. Raises ValueError.

    Python looks for cycles after every 700 new objects, and now and then among all that it has. A page of a list makes
    a hundred thousand, which hold none: to look took four times as long as to decode.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        return json.loads(content)
    finally:
        if looks:
            gc.enable()
