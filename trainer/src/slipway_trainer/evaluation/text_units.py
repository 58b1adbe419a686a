"""What texts are cut into where they are compared: words where spaces part them, characters of Chinese and Japanese."""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
_END = re.compile(r"[.。]+$")


def units(text: str) -> list[str]:
    """Returns Chinese and Japanese characters, words of other scripts, and punctuation marks."""
    return _UNIT.findall(text)


def plain(text: str) -> str:
    """Returns a text in the form in which answers are the same: NFKC, case folded, each run of white space one space,
    none at the ends, and without a full stop at the end."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return _END.sub("", folded).rstrip() or folded
