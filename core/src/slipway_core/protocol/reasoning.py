"""Where the reasoning of an answer ends and what it says begins: one rule for the judge and for the server.

It looks at the text alone, so that it holds for markers that are one token and for those that are many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Marker = Annotated[str, Field(min_length=1, max_length=256, pattern=r"(?s)^\S(.*\S)?$")]


class Reasoning(BaseModel):
    """What a chat template writes around the reasoning of an answer, without white space at its ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Marker
    """`<think>` and the like. It stands in the answer, or at the end of the prompt."""
    end: Marker
    plain: Marker | None = None
    """What stands before an answer without reasoning, where that is a mark of its own."""
    always: bool = False
    """Whether every answer has a block, an empty one too."""

    def has_one_of(self, tokens: Iterable[str]) -> bool:
        """Whether a marker holds one of these tokens, such as those that are left out of a text."""
        markers = (self.start, self.end, self.plain or "")
        return any(token in marker for token in tokens for marker in markers)

    def opened(self, prompt: str) -> bool:
        """Whether a prompt ends within the reasoning of the answer that is to come."""
        return prompt.rstrip().endswith(self.start)

    def closed(self, prompt: str) -> bool:
        """Whether a prompt ends behind a block, so that the answer has no reasoning."""
        return prompt.rstrip().endswith(self.end)


@dataclass(frozen=True)
class Parts:
    """Of an answer, or of a piece of one."""

    reasoning: str = ""
    answer: str = ""


def split(text: str, reasoning: Reasoning | None, *, opened: bool = False) -> Parts:
    """Returns what an answer thinks and what it says.

    Reasoning that is not closed is all there is: then it says nothing.

    Args:
        reasoning: how the model marks it; None where it marks none.
        opened: whether the prompt ends within it.
    """
    if reasoning is None:
        return Parts(answer=text)
    splitter = Splitter(reasoning, opened=opened)
    first, last = splitter.feed(text), splitter.finish()
    return Parts(first.reasoning + last.reasoning, first.answer + last.answer)


_BEFORE: Final = "before"
_REASONING: Final = "reasoning"
_BEHIND: Final = "behind"
_ANSWER: Final = "answer"


@dataclass
class Splitter:
    """Splits an answer as it comes. However it is cut into pieces, the parts are the same."""

    reasoning: Reasoning
    opened: bool = False
    _state: str = _BEFORE
    _held: str = field(default="")
    """What may yet be the start of a marker, or white space at the end of a part."""
    _said: bool = False
    """Whether some of the reasoning was given out: white space before it is none of it."""

    @property
    def answering(self) -> bool:
        """Whether all that comes is the answer."""
        return self._state == _ANSWER

    def feed(self, text: str) -> Parts:
        """Takes the next piece and returns what is sure by now."""
        self._held += text
        self._open()
        return Parts(self._think(), self._answer())

    def finish(self) -> Parts:
        """Returns the rest, once nothing more comes."""
        self._open(last=True)
        thought, said = self._think(), self._answer()
        rest, self._held = self._held, ""
        if self._state == _REASONING:
            rest = rest.rstrip()
            return Parts(thought + (rest if self._said else rest.lstrip()))
        return Parts(thought, said + (rest.lstrip() if self._state == _BEHIND else rest))

    def _open(self, *, last: bool = False) -> None:
        """Decides what the answer begins with, once no more of it can change that."""
        if self._state != _BEFORE:
            return
        text = self._held.lstrip()
        openings = self._openings()
        if not last and any(marker.startswith(text) and marker != text for marker, _ in openings):
            return
        found = [opening for opening in openings if text.startswith(opening[0])]
        if found:
            # The longest: one mark may begin as another does.
            marker, self._state = max(found, key=lambda opening: len(opening[0]))
            self._held = text[len(marker) :]
        else:
            self._state = _REASONING if self.opened else _ANSWER

    def _openings(self) -> list[tuple[str, str]]:
        plain = self.reasoning.plain
        # A model repeats the start that its prompt has given.
        return [(self.reasoning.start, _REASONING), *([(plain, _BEHIND)] if plain and not self.opened else [])]

    def _think(self) -> str:
        if self._state != _REASONING:
            return ""
        thought, found, rest = self._held.partition(self.reasoning.end)
        if found:
            self._held, self._state = rest, _BEHIND
            thought = thought.rstrip()
        else:
            sure = len(thought) - _overlap(thought, self.reasoning.end)
            sure = len(thought[:sure].rstrip())
            thought, self._held = thought[:sure], thought[sure:]
        if not self._said:
            thought = thought.lstrip()
        self._said = self._said or bool(thought)
        return thought

    def _answer(self) -> str:
        if self._state == _BEHIND:
            self._held = self._held.lstrip()
            if self._held:
                self._state = _ANSWER
        if self._state != _ANSWER:
            return ""
        said, self._held = self._held, ""
        return said


def _overlap(text: str, marker: str) -> int:
    """Returns how many characters at the end of a text may begin the marker."""
    lengths = range(min(len(text), len(marker) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(marker[:length])), 0)
