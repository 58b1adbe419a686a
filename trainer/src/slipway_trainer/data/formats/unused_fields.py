"""Fields of a row that mean something to who wrote them and are not used yet: refused by name, never dropped silently.

A field that is null or empty says nothing, as Parquet files fill it in; nor does one that asks for what is done anyway.
Any other field of a row, such as an id, is the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from slipway_trainer.data.formats.row_format import CONVERSATION_FIELDS

_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_RENDERED_OF_ROW = ("functions", "documents", "chat_template_kwargs", *_MEDIA)
_RENDERED_OF_TURN = (
    "tools", "functions", "function_call", "tool_plan", "prefix", "reasoning_details", "thinking_blocks", "documents",
    "citations", *_MEDIA,
)  # fmt: skip
"""What chat templates, and the APIs for which they are written, know beside the role and the content of a turn."""
_AMOUNTS = ("weight", "train", "loss", "trainable", "training", "loss_weight", "loss_scale", "sample_weight")
"""How much of it is learned: 0 and false nothing, 1 and true all."""
_USED_OF_ANSWER = ("weight", "train")
_ANSWERS = {"assistant", "gpt", "function_call"}
_MASKS = ("loss_mask", "mask", "train_detail")
_LEARNED_OF_ROW = ("weight", "train", "loss", "loss_weight", "loss_scale", "sample_weight", "loss_mask")
_OF_TURN = frozenset((*_RENDERED_OF_TURN, *_AMOUNTS, *_MASKS))
_JUDGED = "label"
"""Of a row: false where its answer is an example of a bad one, in preferences that are not paired (KTO). Anything else
that stands there is the user's own."""
COLUMNS = (*_RENDERED_OF_ROW, *_LEARNED_OF_ROW)
"""Of a row."""
READ = (*COLUMNS, _JUDGED)
"""What a Parquet file is asked for, too."""
_OF_ROW = frozenset(READ)


def problem(row: Mapping[str, Any], *, rendered: bool, learned: bool) -> str | None:
    """Returns what a row asks for that would be lost, and what to do about it; None when nothing would be.

    Args:
        rendered: whether a chat template renders it: a conversation, or a prompt.
        learned: whether it is learned from.
    """
    turns = list(_turns(row)) if rendered else []
    if not turns and _OF_ROW.isdisjoint(row):
        return None  # As nearly all rows are.
    if learned and row.get(_JUDGED) is False and (rendered or "completion" in row):
        return (
            "label false says that its answer is not a good one, and it would be learned like any other. Remove the "
            "row, or the field if it means something else"
        )
    lost = _unrendered(row, turns) if rendered else []
    if lost and any(name.partition(" ")[0] in _MEDIA for name in lost):
        return f"{_listed(lost)} would be lost: models of text alone are trained. Remove the row, or the field"
    if lost:
        return (
            f"{_listed(lost)} would be lost: no chat template is given it yet. Write what is meant into a content, "
            "set it to null, or remove the row"
        )
    lost = _unweighed(row, turns) if learned else []
    if lost:
        return (
            f"{_listed(lost)} would be lost: {'every answer' if rendered else 'every text'} is learned as much as any "
            "other, or not at all by weight 0 or train false of its turn. Set it to null"
        )
    return None


def _turns(row: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for name in (*CONVERSATION_FIELDS, "prompt", "completion", "chosen", "rejected"):
        found = row.get(name)
        found = [found] if isinstance(found, dict) else found
        for number, turn in enumerate(cast(list[Any], found) if isinstance(found, list) else [], 1):
            if isinstance(turn, dict) and not _OF_TURN.isdisjoint(turn):
                yield number, turn


def _unrendered(row: Mapping[str, Any], turns: list[tuple[int, dict[str, Any]]]) -> list[str]:
    return [name for name in _RENDERED_OF_ROW if row.get(name)] + [
        f"{name} of turn {number}" for number, turn in turns for name in _RENDERED_OF_TURN if turn.get(name)
    ]


def _unweighed(row: Mapping[str, Any], turns: list[tuple[int, dict[str, Any]]]) -> list[str]:
    return [asked for name, asked in _asked(row, learned=True) if name in _LEARNED_OF_ROW] + [
        f"{asked} of turn {number}"
        for number, turn in turns
        for _, asked in _asked(turn, learned=_ANSWERS & {turn.get("role"), turn.get("from")} != set(), turn=True)
    ]


def _asked(fields: Mapping[str, Any], *, learned: bool, turn: bool = False) -> Iterator[tuple[str, str]]:
    """Yields what asks for another amount than is learned of it, which is all or nothing: name, and name with value.

    Of an answer, `weight` and `train` may say either.
    """
    for name in (*_AMOUNTS, *_MASKS):
        value = fields.get(name)
        if value is None or value == [] or (name in _AMOUNTS and value == learned):
            continue
        if turn and learned and name in _USED_OF_ANSWER and not isinstance(value, str) and value == 0:
            continue
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        yield name, f"{name} {shown if len(shown) <= 20 else shown[:19] + '…'}"


def _listed(lost: list[str]) -> str:
    return lost[0] if len(lost) == 1 else f"{', '.join(lost[:-1])} and {lost[-1]}"
