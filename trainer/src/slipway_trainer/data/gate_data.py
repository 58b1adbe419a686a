"""Which data each gate is measured on, as one digest: an endpoint may require a gate on exactly that.

It covers what the gate counts and nothing else: of a gate on a source or a slice these rows alone, whatever files they
stand in and whatever else the run evaluates. So another source beside it leaves the digest as it is. What decides how
hard the rows are is in it: their answers and checks, which of them belong together, how long an answer may be, and of a
task its definition, its examples and its limit. Which code computes the figure is not: the statement names the release.

It is made of the copies that `evaluate` reads, each by its digest, so that nobody can write other digests beside them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import (
    CHAT_METRICS,
    JUDGE_METRICS,
    RECALL_METRICS,
    REFERENCE_METRICS,
    TEXT_METRICS,
)
from slipway_trainer.data.held_out import copied_bytes

_OF_ITS_PLACE = ("of", "slice", "cluster", "source")
"""What a copied row says of where it stands, and not of what it asks."""


def of_gates(plan: Plan, workspace: Workspace, copies: Mapping[str, str]) -> list[str]:
    """Returns for each gate of a plan the digest of what it is measured on.

    Args:
        copies: SHA-256 of each copy of the held-out data, by the name of the file.

    Raises BadData for a copy that is not there, DamagedShard for one that was changed.
    """
    rows = functools.cache(lambda of: _rows(of, workspace, copies))
    known: dict[tuple[object, ...], str] = {}
    found: list[str] = []
    for gate in plan.evaluation.gates:
        key = gate.task, gate.source, gate.slice, *_counted(gate)
        if key not in known:
            known[key] = (
                _digest(_of_task(gate.task, workspace, copies)) if gate.task is not None else _of_rows(gate, plan, rows)
            )
        found.append(known[key])
    return found


def _rows(of: str, workspace: Workspace, copies: Mapping[str, str]) -> list[dict[str, Any]]:
    path: Path = getattr(workspace, f"evaluation_{of}")
    # Where there are none, there is no file of conversations.
    text = copied_bytes(path, copies).decode("utf-8") if path.name in copies else ""
    return [json.loads(line) for line in text.split("\n") if line]


def _of_rows(gate: Gate, plan: Plan, rows: Callable[[str], list[dict[str, Any]]]) -> str:
    of, recall = _counted(gate)
    counted = [
        row
        for row in rows(of)
        if gate.source in (None, row.get("of"))
        and gate.slice in (None, row.get("slice"))
        and recall in (None, bool(row.get("recall")))
    ]
    longest = {"maxNewTokens": plan.evaluation.max_new_tokens} if of == "prompts" else {}
    return _digest([_json({"of": of, **longest}), *sorted(_lines(counted))])


def _counted(gate: Gate) -> tuple[str, bool | None]:
    """Returns what a gate that is on no task counts, and of prompts whether they are asked for recall, None for all."""
    if gate.metric in TEXT_METRICS:
        return "documents", None
    if gate.metric in CHAT_METRICS:
        return "conversations", None
    if gate.metric in RECALL_METRICS:
        return "prompts", True
    return "prompts", False if gate.metric in (*REFERENCE_METRICS, *JUDGE_METRICS) else None


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yields a line for each row: what it says, and the rows of its cluster, whatever that is called."""
    said: list[tuple[str, str | None]] = []
    clusters: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        # In the order in which they stand there: a template writes the fields of tools and calls in theirs.
        own = _sha256(_json({name: value for name, value in row.items() if name not in _OF_ITS_PLACE}))
        cluster = row.get("cluster")
        said.append((own, cluster))
        if cluster is not None:
            clusters[cluster].append(own)
    together = {name: _sha256("\n".join(sorted(members))) for name, members in clusters.items() if len(members) > 1}
    for own, cluster in said:
        # A row that is alone in its cluster is one piece, as one without is.
        yield f"{own} {together.get(cluster or '', '-')}"


def _of_task(name: str, workspace: Workspace, copies: Mapping[str, str]) -> Iterator[str]:
    """Yields how a task is asked, and its rows."""
    entries = json.loads(copied_bytes(workspace.evaluation_tasks, copies))
    entry = next(one for one in entries if one["described"]["name"] == name)
    described = {what: value for what, value in entry["described"].items() if what not in ("version", "rows")}
    definition = entry["wanted"]["definition"]
    asked = {name: entry[name] for name in ("limit", "left_out")}
    yield json.dumps({"of": "task", "definition": definition, **described, **asked}, ensure_ascii=False, sort_keys=True)
    for split, file in sorted(entry["files"].items()):
        yield json.dumps({"split": split})
        # By the rows and not by the file: what writes Parquet writes its own version into it.
        yield from _parquet_rows(copied_bytes(workspace.evaluation_data / file, copies))


def _parquet_rows(content: bytes) -> Iterator[str]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(io.BytesIO(content)).iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            yield json.dumps(row, ensure_ascii=False, sort_keys=True, default=repr)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _sha256(text: str) -> str:
    # A row's pattern may hold half of a surrogate pair, as JSON can write it.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _digest(lines: Iterable[str]) -> str:
    hashed = hashlib.sha256()
    for line in lines:
        hashed.update(f"{line}\n".encode(errors="surrogatepass"))
    return f"sha256:{hashed.hexdigest()}"
