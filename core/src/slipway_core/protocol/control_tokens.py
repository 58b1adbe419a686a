"""Control tokens, and how what somebody says is kept from making them.

A chat template begins and ends turns with tokens such as `<|im_end|>`, and a tokenizer finds these anywhere in a text:
who writes one into a question ends it there, and may speak on as somebody else. So a conversation that holds one is
rendered with a stand-in for it, which shows where in the text it came to stand, and is encoded with the template's own
control tokens alone. Training, evaluation and the server do it by this one module, and so have the same tokens.

Conversations that hold none, nearly all, are only looked through: their text and their tokens stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

Message = dict[str, Any]

# Code points that Unicode keeps for use within a program: they are in no text that is handed on.
STAND_IN: Final = re.compile("\ufdd0([0-9]+)\ufdd1")
"""A control token that somebody wrote out, by its place in `special`."""
INTERNAL: Final = re.compile("[\ufdd0-\ufdd3]")

_REASONING: Final = re.compile(r"think|thought|reason", re.IGNORECASE)
_BRACKETED: Final = re.compile(r"[<\[]\S*[>\]]")
_SPOKEN: Final = ("content", "reasoning", "reasoning_content", "thinking")
"""Of an assistant's turn, what the model itself writes: it has tokens for reasoning and for calls there."""
_PLAIN_TURNS: Final = (
    ("user", "assistant"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user"),
)


class NotQuotable(ValueError):
    """What a conversation holds cannot be told from control tokens: why, as a whole sentence without a full stop."""


@dataclass(frozen=True)
class Quoted:
    """A conversation with stand-ins for the control tokens that it holds."""

    messages: list[Message]
    others: Any
    count: int
    """Control tokens that were written out in it."""
    first: str
    """The first of them and where it stands, as "turn 2 (user) holds '</s>'"."""


@dataclass(frozen=True)
class ControlTokens:
    """Which tokens control a model, by their texts."""

    special: tuple[str, ...] = ()
    """What nobody but the template may write, longest first; the assistant may write what is not in `turns`."""
    turns: tuple[str, ...] = ()
    """Of these, what begins and ends texts and turns."""
    others: tuple[str, ...] = ()
    """Tokens beside the vocabulary that are words like any other."""

    @staticmethod
    def find(
        added: Mapping[str, bool],
        named: Iterable[str],
        render: Callable[[list[Message], bool], str | None],
    ) -> ControlTokens:
        """Returns the control tokens of a tokenizer and its chat template.

        Args:
            added: the tokens beside the vocabulary, and whether the tokenizer calls them special. Not all families
                call those special that begin a turn (DeepSeek, Command R), so the template is asked for them.
            named: BOS, EOS and their like.
            render: makes a text of a conversation, with the start of an answer to come or without; None where the
                template does not take it.
        """
        named = {token for token in named if token}
        any_added = _pattern(added)
        turns = set(named)
        for roles in _PLAIN_TURNS:
            text = render([{"role": role, "content": role.upper()} for role in roles], roles[-1] == "user")
            found = any_added.findall(text) if text and any_added else []
            turns.update(t for t in found if (added[t] or _BRACKETED.fullmatch(t)) and not _REASONING.search(t))
        special = turns | {token for token, is_special in added.items() if is_special and token}
        return ControlTokens(_longest_first(special), _longest_first(turns), _longest_first(set(added) - special))

    def quote(self, messages: Sequence[Message], others: Any = None) -> Quoted | None:
        """Returns a conversation with a stand-in for each control token that somebody wrote out; None for none.

        Args:
            others: what a template is given beside the messages, as JSON values: what may be called, documents.

        Raises NotQuotable when a conversation with such a token holds a stand-in already, or when parts of a content
        make a token together.
        """
        walk = _Walk(self)
        quoted = [walk.message(message, number) for number, message in enumerate(messages, 1)]
        quoted_others = walk.value(others, "what is given beside the turns", self._special)
        if walk.count == 0:
            return None
        if _holds(messages, INTERNAL) or _holds(others, INTERNAL):
            raise NotQuotable(f"{walk.first}, and another place a code point from U+FDD0 to U+FDD3: take one out")
        return Quoted(quoted, quoted_others, walk.count, walk.first)

    def restore(self, text: str) -> str:
        """Returns a text with the control tokens in place of their stand-ins. Raises NotQuotable when one is cut."""
        restored = STAND_IN.sub(lambda found: self.special[int(found[1])], text)
        if INTERNAL.search(restored):
            raise NotQuotable("the text is cut within a control token that stands in a turn")
        return restored

    def is_quoted(self, text: str, quoted: str) -> bool:
        """Whether a text with stand-ins is this text: whether a template did to them what it does to the tokens."""
        try:
            return self.restore(quoted) == text
        except NotQuotable:
            return False

    def restored(self, value: Any) -> Any:
        """Returns JSON values with the control tokens in place of their stand-ins."""
        return _mapped(value, self.restore)

    def stand_in(self, token: str) -> str:
        """Returns what stands in a conversation for a control token."""
        return f"\ufdd0{self._index[token]}\ufdd1"

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.special)}

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        return _pattern(self.special)

    @cached_property
    def _turns(self) -> re.Pattern[str] | None:
        return _pattern(self.turns)

    @cached_property
    def genuine(self) -> re.Pattern[str]:
        """What a tokenizer finds in a text, and stand-ins."""
        tokens = _any_of(_longest_first([*self.special, *self.others]))
        return re.compile(f"{STAND_IN.pattern}|(?:{tokens})" if tokens else STAND_IN.pattern)

    def pattern(self, role: object, field: str) -> re.Pattern[str] | None:
        """Returns what is looked for in a field of a turn."""
        return self._turns if role == "assistant" and field in _SPOKEN else self._special


class _Walk:
    """Puts stand-ins into the values of a conversation, and counts them."""

    def __init__(self, control: ControlTokens) -> None:
        self._control = control
        self.count = 0
        self.first = ""

    def message(self, message: Message, number: int) -> Message:
        role = message.get("role")
        where = f"turn {number} ({role})"
        return {name: self.value(value, where, self._control.pattern(role, name)) for name, value in message.items()}

    def value(self, value: Any, where: str, pattern: re.Pattern[str] | None) -> Any:
        if pattern is None:
            return value

        def put(found: re.Match[str]) -> str:
            self.first = self.first or f"{where} holds {found[0]!r}"
            self.count += 1
            return self._control.stand_in(found[0])

        self._refuse_together(value, where, pattern)
        return _mapped(value, lambda text: pattern.sub(put, text))

    def _refuse_together(self, value: Any, where: str, pattern: re.Pattern[str]) -> None:
        """Raises NotQuotable when texts that a template may write one behind the other make a token."""
        for parts in _parts(value):
            alone = sum(len(pattern.findall(part)) for part in parts)
            if len(together := pattern.findall("".join(parts))) > alone:
                raise NotQuotable(
                    f"parts of {where} make {together[-1]!r} together: write it into one part, or leave it out"
                )


def _parts(value: Any) -> Iterator[list[str]]:
    """Yields the texts of each list of texts, and of each list of parts that have one, as a content may be."""
    if isinstance(value, Mapping):
        value = list(cast(Mapping[Any, Any], value).values())
        yield from (found for inner in value for found in _parts(inner))
    elif isinstance(value, list | tuple):
        found = cast(Sequence[Any], value)
        said = [cast(Mapping[Any, Any], part).get("text") if isinstance(part, Mapping) else part for part in found]
        yield [text for text in said if isinstance(text, str)]
        yield from (parts for inner in found for parts in _parts(inner))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Returns JSON values with every text changed, the names of fields too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        found = cast(Mapping[Any, Any], value)
        return {_mapped(name, change): _mapped(inner, change) for name, inner in found.items()}
    if isinstance(value, list | tuple):
        return [_mapped(inner, change) for inner in cast(Sequence[Any], value)]
    return value


def _holds(value: Any, pattern: re.Pattern[str]) -> bool:
    found = False

    def look(text: str) -> str:
        nonlocal found
        found = found or pattern.search(text) is not None
        return text

    _mapped(value, look)
    return found


def _pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    found = _longest_first(tokens)
    return re.compile(_any_of(found)) if found else None


def _any_of(tokens: Iterable[str]) -> str:
    """Returns what matches the longest of these texts, written as a tree: some tokenizers have hundreds of them, and
    every row is looked through."""
    groups: dict[str, list[str]] = {}
    for token in tokens:
        groups.setdefault(token[0], []).append(token)
    branches: list[str] = []
    for group in groups.values():
        first, last = min(group), max(group)
        differs = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        head = first[: next(differs, len(first))]
        tails = {token.removeprefix(head) for token in group}
        rest = _any_of(sorted(tails - {""}))
        optional = "?" if "" in tails else ""
        branches.append(re.escape(head) + (f"(?:{rest}){optional}" if rest else ""))
    return "|".join(branches)


def _longest_first(tokens: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({token for token in tokens if token}, key=lambda token: (-len(token), token)))
