"""Overrides of the command line: `--set stages.pretrain.epochs=3`."""

# A document is untyped until it is validated, so strict checking has nothing to hold on to here.
# pyright: basic

from __future__ import annotations

import re
from typing import Any

from slipway_core.documents import yaml12

TOP = ("apiVersion", "kind", "metadata", "spec")
_SEGMENT = re.compile(r'\.?([\w-]+)|\[(\d+)\]|\["([^"\]]+)"\]')


class OverrideError(ValueError):
    """The override cannot be applied; the message names it and what to write."""


def apply(document: dict[str, Any], override: str) -> yaml12.Path:
    """Changes one value of a document in place and returns the path of all that is new in it.

    The path starts at the top or, for short, at `spec`; an item of a list is named by its index (`stages[0]`) or
    by its name (`stages.pretrain`; `gates.perplexity` by its metric). The value is read as YAML, and an empty one
    takes the field away. Raises OverrideError.
    """
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise OverrideError(f"--set {override}: is not of the form path=value, as in spec.stages[0].epochs=3")
    try:
        value = yaml12.scalar(text)
    except yaml12.YamlError as error:
        fix = f"; {error.fix}" if error.fix else ""
        raise OverrideError(f"--set {override}: {error.message}{fix}") from None
    keys = _split(path.strip(), override)
    if keys[0] not in TOP:
        keys.insert(0, "spec")
    parent: Any = document
    done: list[str | int] = []
    new: yaml12.Path | None = None
    for key in keys[:-1]:
        step = _step(parent, key, done, override)
        done.append(step)
        if isinstance(parent, dict) and parent.get(key) is None:
            parent[key] = {}
            new = new or tuple(done)
        parent = parent[step]
    last = _step(parent, keys[-1], done, override)
    if value is None and isinstance(parent, dict):
        parent.pop(last, None)
    else:
        parent[last] = value
    return new or (*done, last)


def _split(path: str, override: str) -> list[str]:
    keys: list[str] = []
    end = 0
    while end < len(path):
        found = _SEGMENT.match(path, end)
        if not found:
            raise OverrideError(f"--set {override}: {path!r} is no path; write it like spec.stages[0].epochs")
        keys.append(found[1] or found[2] or found[3])
        end = found.end()
    return keys


def _step(parent: Any, key: str, done: list[str | int], override: str) -> str | int:
    where = yaml12.shown(tuple(done)) or "the document"
    if isinstance(parent, dict):
        return key
    if not isinstance(parent, list):
        raise OverrideError(f"--set {override}: {where} is {parent!r} and has no {key}")
    names = [item.get("name", item.get("metric")) if isinstance(item, dict) else None for item in parent]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(parent):
        return int(key)
    known = ", ".join(str(name) for name in names if name is not None)
    has = f"it has {known}" if known else f"it has {len(parent)} item{'s' if len(parent) != 1 else ''}, from [0]"
    raise OverrideError(f"--set {override}: {where} has no {key}; {has}")
