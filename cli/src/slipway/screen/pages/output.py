"""Where a page goes that a command was told to write."""

from __future__ import annotations

from pathlib import Path

from slipway.exit_codes import BadInput


def require_page(output: Path | None, what: str) -> None:
    """Raises BadInput for a file that is called as no page is, before anything is read.

    Args:
        what: is written, such as "a report".
    """
    if output is not None and output.suffix.lower() != ".html":
        raise BadInput(f"--output {output}: ends in {output.suffix or 'nothing'}; {what} is a page: .html")


def write(output: Path, text: str) -> None:
    """Writes a file, in a folder that is made where there is none."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
