"""What the gate costs of a run that was judged on this machine, in seconds, part by part.

    slipway run examples/quickstart.yaml
    .venv/bin/python -m bench.gate_seconds quickstart [--workdir FOLDER]

Read from what the run has left: the times of its steps, the seconds that the evaluation's report names, and, where its
model is live, when it took over and what the server's log says of the check that it is the model that was judged.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slipway.local.state import EndpointFolder, RunFolder, State
from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.status import RunStatus

MODELS = {"candidate": "the model", "baseline": "the live version", "base": "the base"}
PARTS = {"perplexity": "texts", "conversations": "conversations", "generation": "answers"}
_CHECK = re.compile(r"This is the model that was judged: .*\((\d+\.\d) s\)")

Row = tuple[str, float]


def rows(state: State, name: str) -> Iterator[Row]:
    """Yields what took time, and how many seconds.

    Raises SystemExit for a run that was not judged, StateError for one that is not there.
    """
    folder = state.existing_run(name)
    status = folder.status()
    if status.evaluation is None:
        raise SystemExit(f"{name}: was not judged; run it with a gate first")
    yield from ((f"step {name}, its process included", seconds) for name, seconds in steps(status))
    path = folder.workspace().report(status.evaluation.number)
    if path.exists():
        yield from _evaluation(json.loads(path.read_text(encoding="utf-8")))
    if status.endpoint is not None:
        yield from _rollout(folder, status, state.endpoint(status.endpoint.name))


def steps(status: RunStatus) -> Iterator[Row]:
    """Yields the steps of a run, and the seconds of each, its process included."""
    for step in status.stages:
        if step.started_at and step.finished_at:
            yield step.name, _between(step.started_at, step.finished_at)


def since_verdict(status: RunStatus, moment: str) -> float | None:
    """Returns the seconds from the verdict until a moment; None where nothing was judged."""
    judged = status.step("evaluate")
    return _between(judged.finished_at, moment) if judged is not None and judged.finished_at is not None else None


def _between(first: str, then: str) -> float:
    return (parse_timestamp(then) - parse_timestamp(first)).total_seconds()


def _evaluation(report: Mapping[str, Any]) -> Iterator[Row]:
    for key, model in MODELS.items():
        told = report.get(key)
        if not isinstance(told, Mapping) or "seconds" not in told:
            continue
        parts = {what: told[part]["seconds"] for part, what in PARTS.items() if "seconds" in (told.get(part) or {})}
        yield from ((f"evaluate, {model}: {what}", seconds) for what, seconds in parts.items())
        if key == "candidate" and "seconds" in (report.get("parity") or {}):
            parts["parity"] = report["parity"]["seconds"]
            yield "evaluate, the model: the record of parity", parts["parity"]
        yield (
            f"evaluate, {model}: loading, the engine, bounds and the rest",
            max(0.0, told["seconds"] - sum(parts.values())),
        )


def _rollout(folder: RunFolder, status: RunStatus, endpoint: EndpointFolder) -> Iterator[Row]:
    live = endpoint.status().live
    mine = live is not None and status.artifact is not None and live.digest == status.artifact.digest
    # Of a version that came back after a rollback, `since` is when it did.
    took = since_verdict(status, live.since) if live is not None and mine else None
    if live is None or took is None:
        return
    log = endpoint.version(live.version) / "server.log"
    found = _CHECK.findall(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
    if found:
        yield "server, at its last start: is it the model that was judged?", float(found[-1])
    if took >= 0:
        yield "from the verdict until it is live", took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="a run")
    parser.add_argument("--workdir", type=Path, default=Path())
    options = parser.parse_args()
    print("| what | seconds |\n|---|---|")
    for what, seconds in rows(State.below(options.workdir), options.name):
        print(f"| {what} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
