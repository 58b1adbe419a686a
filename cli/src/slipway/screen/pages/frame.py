"""What every page stands in: one file, with its style in it, that asks nobody for anything."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template

_PAGES = "slipway.screen.pages"


def framed(title: str, body: str, *, style: str = "", language: str = "en") -> str:
    """Returns a page as HTML.

    Args:
        title: as a text.
        body: as HTML; whatever somebody else wrote in it is escaped.
        style: rules of this page alone, after those of all pages.
        language: of the page's words, as HTML names it.
    """
    frame = Template(read(_PAGES, "frame.html"))
    return frame.substitute(
        title=escape(title), body=body, style=read(_PAGES, "pages.css") + style, language=escape(language)
    )


def read(package: str, name: str) -> str:
    """Returns a text that lies beside a package's modules."""
    return (resources.files(package) / name).read_text(encoding="utf-8")
