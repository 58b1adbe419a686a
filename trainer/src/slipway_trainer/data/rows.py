"""Rows of a data file, checked one by one; what is wrong is named by file and line.

A file is read in blocks of whole rows, so that several processes can check and tokenise it. Nothing that a row means
depends on where a block ends: what form the rows of a file have is decided by its first one. A text is what its string
holds, to the byte: white space at its ends, line ends and how its characters are composed are the user's, unless the
stage asks for something else. A byte order mark before a row is the file's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from slipway_core.resources.data import TextForm
from slipway_trainer.data import normalization
from slipway_trainer.data.bad_row import BadRow, shown, string
from slipway_trainer.data.formats import answer_checks, columns, preference_rows, row_format, row_labels, unused_fields
from slipway_trainer.data.formats.answer_checks import Checks
from slipway_trainer.data.formats.conversation_rows import filled, required, spoken
from slipway_trainer.data.formats.row_format import ALLOWED, Format, Use
from slipway_trainer.data.formats.row_labels import Labels
from slipway_trainer.data.formats.turns import Turn as Turn
from slipway_trainer.data.reading.block import Block, bad
from slipway_trainer.data.reading.block_rows import rows_of
from slipway_trainer.step.errors import BadData

Row = TypeVar("Row")

_HARMLESS = frozenset(
    (
        "id", "_id", "uid", "uuid", "guid", "idx", "index", "row_id", "prompt_id", "conversation_id", "chat_id", "hash",
        "source", "sources", "origin", "dataset", "subset", "split", "url", "urls", "link", "file", "path", "filename",
        "title", "author", "license", "timestamp", "timestamps", "created", "created_at", "date", "time", "lang",
        "language", "meta", "metadata", "tags", "category", "topic", "model", "version", "num_turns", "n_tokens",
        "num_tokens", "token_count", "length", "__index_level_0__",
    )
)  # fmt: skip
"""Columns of data sets that say where a row is from. Nobody misses them; others are named, once a file."""
_LEARNS: dict[Use, str] = {
    "CausalLM": "CausalLM learns from",
    "Chat": "Chat learns from",
    "Preference": "Preference learns from",
    "HeldOut": "held-out text stands in",
    "Prompts": "a prompt is one of",
}


@dataclass(frozen=True)
class Document:
    line: int
    text: str
    prompt: int = 0
    """Characters at its beginning that are seen and not learned."""
    normalized: frozenset[TextForm] = frozenset()
    """What changed it."""
    labels: Labels = row_labels.NONE
    """Of a held-out one."""


@dataclass(frozen=True)
class Conversation:
    line: int
    turns: tuple[Turn, ...]
    tools: str | None = None
    """What the assistant may call, as a JSON list."""
    normalized: frozenset[TextForm] = frozenset()
    """What changed some of its turns."""
    labels: Labels = row_labels.NONE
    """Of a held-out one."""
    prompt: int | None = None
    """Of a pair of answers, how many turns their prompt has; they come first."""

    @property
    def has_tools(self) -> bool:
        """Whether it has tools, or calls some."""
        return self.tools is not None or any(turn.tool_calls for turn in self.turns)

    @property
    def learned(self) -> list[bool]:
        """Of each turn, whether it is learned."""
        return [turn.role == "assistant" and turn.learned for turn in self.turns]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [turn.to_message() for turn in self.turns]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which the chosen one is the better."""

    line: int
    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    tools: str | None = None
    """What the assistant may call, as a JSON list."""
    normalized: frozenset[TextForm] = frozenset()
    """What changed some of its turns."""

    @property
    def both(self) -> tuple[Conversation, Conversation]:
        """Returns the conversations that end with the chosen and with the rejected answer."""
        first, second = (
            Conversation(self.line, (*self.prompt, *answer), self.tools) for answer in (self.chosen, self.rejected)
        )
        return first, second

    @property
    def together(self) -> Conversation:
        """Returns all turns in one, by which pairs are told apart and held against other texts."""
        turns = (*self.prompt, *self.chosen, *self.rejected)
        return Conversation(self.line, turns, self.tools, self.normalized, prompt=len(self.prompt))


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with a turn which the assistant answers, and what the answer should be."""

    line: int
    turns: tuple[Turn, ...]
    answer: str | None
    tools: str | None = None
    others: tuple[str, ...] = ()
    """Further answers that are as right."""
    labels: Labels = row_labels.NONE
    checks: Checks = answer_checks.NONE
    """What an answer has to be like."""
    unread: tuple[tuple[str, str], ...] = ()
    """Fields that would say so, and what is wrong with each."""

    @property
    def answers(self) -> tuple[str, ...]:
        """Returns what an answer is compared with."""
        return () if self.answer is None else (self.answer, *self.others)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [turn.to_message() for turn in self.turns]


def documents(
    block: Block, use: Use = "CausalLM", unused: Counter[str] | None = None, blank: list[int] | None = None
) -> list[Document]:
    """Returns the texts of a block, without those that say nothing: data sets that hold a text a line have many.

    Args:
        use: CausalLM, or HeldOut.
        unused: counts, by name, the fields that rows have and that nothing asks for.
        blank: gets the lines of the rows whose text is empty, or white space alone.

    Raises BadData that names file and line.
    """

    def read(line: int, row: Mapping[str, Any], form: Format) -> Document | None:
        if problem := unused_fields.problem(row, rendered=False, learned=True):
            raise BadRow(problem)
        if form == "Text":
            text = required(row, "text")
            if not string(text, "text").strip():
                if blank is not None:
                    blank.append(line)
                return None
            found = _document(line, "", text, block)
            return replace(found, labels=row_labels.read(row)) if use == "HeldOut" else found
        prompt, completion = row.get("prompt"), row.get("completion")
        if isinstance(prompt, list) or isinstance(completion, list):
            raise BadRow("under CausalLM prompt and completion are strings. Messages are learned by objective: Chat")
        prompt = string(required(row, "prompt"), "prompt")
        return _document(line, prompt, filled(row, "completion"), block)

    return _read(block, use, read, unused)


def conversations(block: Block, unused: Counter[str] | None = None, use: Use = "Chat") -> list[Conversation]:
    """Returns the conversations of a block. Raises BadData that names file and line.

    Args:
        use: Chat, or HeldOut.
        unused: as in `documents`.
    """
    forms = block.reading.normalization
    purpose = "learn" if use == "Chat" else "score"

    def read(line: int, row: Mapping[str, Any], form: Format) -> Conversation:
        if problem := unused_fields.problem(row, rendered=True, learned=True):
            raise BadRow(problem)
        found = spoken(row, form)
        answers = [turn for turn in found.turns if turn.role == "assistant"]
        if not answers:
            raise BadRow(f"no assistant turn: there is nothing to {purpose}. Add one, or remove the row")
        if not any(turn.learned for turn in answers):
            raise BadRow(
                f"every assistant turn has weight 0 or train false: there is nothing to {purpose}. Remove the row"
            )
        changed: set[TextForm] = set()
        turns = tuple(normalization.turn(turn, forms, changed) for turn in found.turns) if forms else found.turns
        if unused is not None:
            unused.update(found.unused)
        labels = row_labels.read(row) if use == "HeldOut" else row_labels.NONE
        return Conversation(line, turns, found.tools, frozenset(changed), labels)

    return _read(block, use, read, unused)


def prompts(block: Block) -> list[Prompt]:
    """Returns the prompts of a block, each with its answer if it has one. Raises BadData.

    The last turn of a conversation may be the assistant's: it is the answer then.
    """

    def read(line: int, row: Mapping[str, Any], form: Format) -> Prompt:
        if problem := unused_fields.problem(row, rendered=True, learned=False):
            raise BadRow(problem)
        answers: tuple[str, ...] = ()
        tools = None
        if form == "Prompt":
            content = string(required(row, "prompt"), "prompt")
            if not content.strip():
                raise BadRow("the prompt is empty, or white space alone")
            turns: tuple[Turn, ...] = (Turn("user", content),)
        else:
            if form in ("Messages", "ShareGPT") and row.get("prompt") is not None:
                raise BadRow("two prompts: the field prompt and a conversation. Leave one of them out")
            found = spoken(row, form)
            turns, tools = found.turns, found.tools
        if form in ("Prompt", "Messages", "ShareGPT"):
            answers = _answers(row)
        if turns[-1].role == "assistant":
            if answers:
                name = "answers" if row.get("answers") is not None else "answer"
                raise BadRow(f"two answers: the field {name} and an assistant turn at the end")
            if turns[-1].tool_calls:
                raise BadRow("the answer calls tools: answers are compared as text. Leave that turn out")
            turns, answers = turns[:-1], (turns[-1].content,)
        if not turns or turns[-1].role not in ("user", "tool"):
            raise BadRow("no user turn that the model could answer")
        checks, unread = answer_checks.read(row)
        answer, *others = answers or (None,)
        return Prompt(
            line, turns, answer, tools, tuple(filter(None, others)), row_labels.read(row), checks, tuple(unread.items())
        )

    return _read(block, "Prompts", read, None)


def pairs(block: Block, unused: Counter[str] | None = None) -> list[Pair]:
    """Returns the pairs of answers of a block. Raises BadData that names file and line."""
    forms = block.reading.normalization

    def read(line: int, row: Mapping[str, Any], _form: Format) -> Pair:
        if problem := unused_fields.problem(row, rendered=True, learned=True):
            raise BadRow(problem)
        found = preference_rows.preference(row)
        changed: set[TextForm] = set()
        prompt, chosen, rejected = (
            tuple(normalization.turn(turn, forms, changed) for turn in turns)
            for turns in (found.prompt, found.chosen, found.rejected)
        )
        if chosen == rejected:
            raise BadRow("chosen and rejected say the same after data.normalization. Remove the row")
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            if not any(turn.role == "assistant" and turn.learned for turn in answer):
                raise BadRow(f"every assistant turn of {name} has weight 0 or train false. Remove the row")
        if unused is not None:
            unused.update(found.unused)
        return Pair(line, prompt, chosen, rejected, found.tools, frozenset(changed))

    return _read(block, "Preference", read, unused)


def _document(line: int, prompt: str, completion: str, block: Block) -> Document:
    changed: set[TextForm] = set()
    prompt, completion = normalization.text(prompt, completion, block.reading.normalization, changed)
    return Document(line, prompt + completion, len(prompt), frozenset(changed))


def _read(
    block: Block,
    use: Use,
    read: Callable[[int, Mapping[str, Any], Format], Row | None],
    unused: Counter[str] | None,
) -> list[Row]:
    found: list[Row] = []
    form = form_of(block, use)
    asked = {*row_format.fields(form), *unused_fields.COLUMNS, *_HARMLESS} if form is not None else set[str]()
    for line, row in _renamed(block, unused):
        if form is None:
            raise bad(block.name, line, _no_form(row, use))
        try:
            if (mixed := _mixed(block, row, form)) is not None:
                raise BadRow(mixed)
            made = read(line, row, form)
        except KeyError as error:
            raise bad(block.name, line, _missing(row, error.args[0], use)) from None
        except BadRow as error:
            raise bad(block.name, line, error) from None
        if made is None:
            continue
        found.append(made)
        if unused is not None:
            unused.update(name for name in row if name not in asked and row[name] is not None)
    if unused is not None:
        unused.update({name: len(found) for name in block.unread if name not in _HARMLESS})
    return found


def form_of(block: Block, use: Use) -> Format | None:
    """Returns how the rows of a block's file are read for a use; None when its first row has no form that fits.

    Raises BadData when it may be read in several ways, or when the source asks for another one.
    """
    asked = block.reading.format
    if asked is not None:
        if asked not in ALLOWED[use]:
            raise BadData(f"{block.name}: format: {asked} does not fit: {_learns(use)}")
        return asked
    assert block.head is not None
    fit: list[Format] = [form for form in block.head.formats if form in ALLOWED[use]]
    if len(fit) > 1:
        raise bad(
            block.name,
            block.head.line,
            f"the row may be read as {' or as '.join(fit)}. Say which: format: {fit[0]} beside the uri",
        )
    return fit[0] if fit else None


def _mixed(block: Block, row: Mapping[str, Any], form: Format) -> str | None:
    """Returns what is wrong with a row that has another form than the first one of its file."""
    if row_format.has_form(row, form) or block.head is None or block.reading.format is not None:
        return None
    found = row_format.of_row(row)
    if not found or form in found:
        return None
    if form in row_format.of_row({name: row[name] for name in row if row[name] is None}):
        return None  # A field that is null has words of its own.
    return (
        f"the row is {found[0]} and line {block.head.line} is {form}: all rows of a file have one form. Put those of "
        "each form into a file of their own"
    )


def _renamed(block: Block, unused: Counter[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    asked = dict(block.reading.columns)
    # Fields of the file for which another column stands.
    replaced = [name for name in asked if name not in asked.values()]
    for line, row in rows_of(block):
        if unused is not None and replaced:
            unused.update(name for name in replaced if row.get(name) is not None)
        try:
            yield line, columns.renamed(row, asked) if asked else row
        except BadRow as error:
            raise bad(block.name, line, error) from None


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what stands in `answer` or `answers`; nothing where there is no such field."""
    one, several = row.get("answer"), row.get("answers")
    if one is not None and several is not None:
        raise BadRow("both answer and answers. Keep one of the two")
    if several is None:
        return () if one is None else (_reference(one, "answer"),)
    if not isinstance(several, list) or not several:
        raise BadRow(f"answers is {shown(several)}; it must be a list of texts. Set it to null when there is none")
    return tuple(_reference(value, f"answer {number}") for number, value in enumerate(cast(list[Any], several), 1))


def _reference(value: Any, what: str) -> str:
    if not string(value, what).strip():
        raise BadRow(f"the {what} is empty, or white space alone. Leave it out when there is none to compare with")
    return value


def _learns(use: Use) -> str:
    """Returns what is read for a use, as the end of an error."""
    return f"{_LEARNS[use]} {columns.wanted(use)} rows"


def _missing(row: Mapping[str, Any], name: str, use: Use) -> str:
    """Returns what is wrong with a row that lacks a field, or has null in it."""
    if name in row:
        return f"{name!r} is null. {_learns(use)}; fill it in, or remove the row"
    return f"no {name!r}: it has {columns.listed(row) or 'no field at all'}. {_learns(use)}"


def _no_form(row: Mapping[str, Any], use: Use) -> str:
    """Returns what is wrong with the first row of a file that has no form which can be used."""
    others = row_format.of_row(row)
    if "Preference" in others and use in ("CausalLM", "Chat"):
        return "the rows are preferences (chosen, rejected), which objective: Preference learns from"
    if use == "Preference" and (half := [name for name in ("chosen", "rejected") if row.get(name) is None]) != [
        "chosen",
        "rejected",
    ]:
        return _missing(row, half[0], use)
    if others and use in ("CausalLM", "Chat", "Preference"):
        other: Use = "Chat" if use == "CausalLM" or others[0] in ALLOWED["Chat"] else "CausalLM"
        hint = f", which objective: {other} learns from" if others[0] in ALLOWED[other] else ""
        return f"the rows are {others[0]}{hint}. {_learns(use)}"
    has = f"it has {columns.listed(row)}" if row else "it has no field at all"
    return f"no field that is read: {has}. {_learns(use)[0].upper()}{_learns(use)[1:]}{_suggested(row, use)}"


def _suggested(row: Mapping[str, Any], use: Use) -> str:
    """Returns what of a source would have such rows read, and what it would not read of them; nothing where the row has
    not as many texts."""
    offered = columns.suggestion(row, use)
    if offered is None:
        asked = columns.fields_of_texts(use)
        if sum(isinstance(value, str) for value in row.values()) < len(asked):
            return ""
        line = f"columns: {{{', '.join(f'{field}: …' for field in asked)}}}"
        return f"; where that stands in columns of other names, say which: {line!r} beside the uri"
    line = f"columns: {{{', '.join(f'{field}: {column}' for field, column in offered.items())}}}"
    own = {*offered.values(), *_HARMLESS, *unused_fields.COLUMNS}
    rest = [name for name in row if name not in own and row[name] is not None]
    loses = f" (which reads no {columns.listed(rest)})" if rest else ""
    return f"; for these add {line!r} beside the uri{loses}"
