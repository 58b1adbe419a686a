"""What a judge was asked and what it said, line by line, for whoever wants to know why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slipway_trainer.evaluation.judge.asking import Reply

LONGEST = 20_000
"""Characters of a text; the rest is in the samples."""
MOST_BYTES = 32 << 20


def lines(replies: Sequence[Reply]) -> list[str]:
    """Returns a line of JSON a reply, as many of the first as fit. `sample` is the line of samples.jsonl, from 0 on."""
    found: list[str] = []
    left = MOST_BYTES
    for reply in replies:
        line = json.dumps(_row(reply), ensure_ascii=True) + "\n"
        left -= len(line)
        if left < 0:
            break
        found.append(line)
    return found


def _row(reply: Reply) -> dict[str, object]:
    question, said = reply.question, reply.completion
    cut = max(len(question.user), len(said.text) if said else 0) > LONGEST
    return {
        "sample": question.row,
        "source": question.source,
        "kind": question.kind,
        "of": question.of,
        "repeat": question.repeat,
        "swapped": question.swapped,
        "sent": question.user[:LONGEST],
        "answered": said.text[:LONGEST] if said else None,
        "points": reply.points,
        "trouble": reply.trouble,
        "kept": reply.kept,
        "seconds": round(reply.seconds, 3),
        **({"cut": True} if cut else {}),
    }
