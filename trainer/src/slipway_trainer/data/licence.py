"""Under which licence something stands, where its own card or configuration says so. Nothing is ever guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

FIELDS = ("license", "license_name", "license_link")
"""As the hub has them in front of a card."""
_FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)
_LONGEST = 256


def of_model(folder: Path) -> dict[str, str]:
    """Returns what the folder of a model says, by FIELDS: its card, else its config.json. Empty where neither does."""
    return of_card(_text(folder / "README.md")) or of_fields(_json(_text(folder / "config.json")))


def of_card(card: str) -> dict[str, str]:
    """Returns what stands in front of a card, by FIELDS; nothing of one that cannot be read."""
    import yaml

    found = _FRONT_MATTER.match(card)
    try:
        return of_fields(yaml.safe_load(found[1]) if found else None)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}


def named(fields: Mapping[str, str]) -> str:
    """Returns a licence in words; empty where none is known."""
    name = fields.get("license_name") or fields.get("license", "")
    return f"{name} ({fields['license_link']})" if name and "license_link" in fields else name


def of_fields(said: Any) -> dict[str, str]:
    """Returns what a card or a configuration says, by FIELDS; nothing where it names no licence."""
    if not isinstance(said, dict):
        return {}
    known = {name: _words(cast(dict[str, Any], said).get(name)) for name in FIELDS}
    return {name: words for name, words in known.items() if words} if known["license"] else {}


def _words(value: Any) -> str:
    """A card may name several."""
    parts: list[Any] = cast(list[Any], value) if isinstance(value, list) else [value]
    words = ", ".join(" ".join(part.split()) for part in parts if isinstance(part, str))
    return words if len(words) <= _LONGEST else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
