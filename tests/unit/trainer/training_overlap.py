"""What `prepare` finds of held-out texts in training data that a test writes, by the passes over real files."""

import json
from pathlib import Path
from typing import Any

from tests.unit.trainer.plans_of_data import causal, chatting, plan, text, write_rows

from slipway_trainer.data import held_out, inputs
from slipway_trainer.prepare import training_scan
from slipway_trainer.step.errors import Overlap


def overlaps(
    folder: Path, *, train: list[str], held: list[str], chats: list[Any] | None = None, workers: int = 1
) -> dict[int, dict[str, Any]]:
    """Returns what overlap.jsonl says, by the number of the held-out text, and checks that it is what is refused."""
    stages = [causal(write_rows(folder / "train.jsonl", *map(text, train)))] if train else []
    stages += [chatting(write_rows(folder / "chats.jsonl", *chats))] if chats else []
    made = plan(*stages, data=[{"uri": write_rows(folder / "held.jsonl", *map(text, held))}])
    found = inputs.collect(made, folder / "fetched", lambda _: None)
    pairs = folder / "overlap.jsonl"
    pairs.unlink(missing_ok=True)
    try:
        scanned = training_scan.scan(found, held_out.read(found), workers, lambda _: None, lambda _: None, pairs=pairs)
    except Overlap as error:
        refused = int(str(error).split()[1])
        discounted = None
    else:
        refused, discounted = 0, scanned.discounted
    rows = [json.loads(line) for line in pairs.read_text().splitlines()] if pairs.exists() else []
    assert refused == sum("discounted" not in row for row in rows)
    assert discounted in (None, len(rows) - refused)
    return {int(row["held"].rsplit(":", 1)[1]) - 1: row for row in rows}
