"""What a stage may ask to be done to its texts before they are learned: `data.normalization`.

Whatever is asked for, the forms in which texts are compared (`text.units`) are the same before and after: they know no
composition, no white space and no line ends. So held-out text is found, and equal documents are, as ever.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

from slipway_core.resources.data import TextForm
from slipway_trainer.data.formats.turns import Turn


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


_FORMS: dict[TextForm, Callable[[str], str]] = {
    "NFC": lambda text: unicodedata.normalize("NFC", text),
    "LineEnds": _line_feeds,
    "Strip": str.strip,
}
"""In the order in which they are applied."""


def in_order(asked: Sequence[TextForm]) -> tuple[TextForm, ...]:
    """Returns what is asked for, each once, in the order in which it is applied."""
    assert set(_FORMS) == set(get_args(TextForm))
    return tuple(form for form in _FORMS if form in asked)


def text(
    prompt: str, completion: str, forms: Sequence[TextForm], changed: set[TextForm] | None = None
) -> tuple[str, str]:
    """Returns both parts of a text, of which the first is seen and not learned and may be empty.

    Strip takes the white space off the ends of the whole: what stands between the two parts is the user's.

    Args:
        prompt: the beginning of a text.
        completion: the rest of it.
        forms: as `in_order` gives them.
        changed: gets the forms that changed something.
    """
    for form in forms:
        if form == "Strip":
            whole = (prompt + completion).strip()
            start = prompt.lstrip()
            found = (start, whole[len(start) :]) if start.strip() else ("", whole)
        else:
            found = _FORMS[form](prompt), _FORMS[form](completion)
        if changed is not None and found != (prompt, completion):
            changed.add(form)
        prompt, completion = found
    return prompt, completion


def turn(said: Turn, forms: Sequence[TextForm], changed: set[TextForm]) -> Turn:
    """Returns a turn with its content and its reasoning so. What it calls, and with what, stays as it is."""
    content, reasoning = said.content, said.reasoning
    for form in forms:
        found = _FORMS[form](content), None if reasoning is None else _FORMS[form](reasoning)
        if found != (content, reasoning):
            changed.add(form)
        content, reasoning = found
    return replace(said, content=content, reasoning=reasoning or None)
