"""How layers of a model are called in a plan: by the end of their full name, as peft compares them."""

from __future__ import annotations


def is_called(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def end(name: str) -> str:
    return name.rsplit(".", 1)[-1]
