"""Printing: documents for scripts, tables for people, and nothing coloured where nobody sees it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from slipway.options import Format
from slipway.screen.visible import visible

if TYPE_CHECKING:
    from rich.console import Console


_ENDLESS = 1_000_000
"""Columns of what has no edge."""


def console(*, error: bool = False) -> Console:
    """Returns a console; rich leaves colour out for a pipe, a file, NO_COLOR and a dumb terminal.

    What goes into a pipe or a file is neither wrapped nor cut: whoever reads it there looks for whole words.
    """
    from rich.console import Console

    screen = Console(stderr=error, highlight=False, soft_wrap=not (sys.stderr if error else sys.stdout).isatty())
    if not screen.is_terminal:
        screen.width = _ENDLESS
    return screen


def say(screen: Console, text: str) -> None:
    """Prints a sentence whole. In it may be words of servers, of steps and of whoever may write a status."""
    screen.print(visible(text), highlight=False, soft_wrap=True, markup=False)


def document(value: Any, format_: Format) -> None:
    """Prints a document as JSON or YAML on standard output."""
    if format_ is Format.JSON:
        print(json.dumps(value, ensure_ascii=False, indent=2))
        return
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.dump(value, sys.stdout)


def note(message: str) -> None:
    """Says something beside the result, where scripts do not read it."""
    print(visible(message), file=sys.stderr)
