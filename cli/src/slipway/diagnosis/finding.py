"""One thing that `slipway doctor` has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    GOOD = "Good"
    NOTE = "Note"
    """Worth knowing; nothing has to change."""
    PROBLEM = "Problem"


@dataclass(frozen=True)
class Finding:
    level: Level
    subject: str
    """What it is about: `pretrain`, `disk`, `port 8000`."""
    title: str
    figure: str = ""
    """The measured values that show it."""
    fix: str = ""
    """What to change, by the name of the field where there is one."""

    def to_document(self) -> dict[str, Any]:
        document = {"level": self.level.value, "subject": self.subject, "title": self.title}
        return document | {key: value for key in ("figure", "fix") if (value := getattr(self, key))}
