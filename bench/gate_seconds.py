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
    yield from _steps(status)
    path = folder.workspace().report(status.evaluation.number)
    if path.exists():
        yield from _evaluation(json.loads(path.read_text(encoding="utf-8")))
    if status.endpoint is not None:
        yield from _rollout(folder, status, state.endpoint(status.endpoint.name))


def _steps(status: RunStatus) -> Iterator[Row]:
    for step in status.stages:
        if step.started_at and step.finished_at:
            took = parse_timestamp(step.finished_at) - parse_timestamp(step.started_at)
            yield f"step {step.name}, its process included", took.total_seconds()


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
    live, judged = endpoint.status().live, status.step("evaluate")
    mine = live is not None and status.artifact is not None and live.digest == status.artifact.digest
    if live is None or not mine or judged is None or judged.finished_at is None:
        return
    log = endpoint.version(live.version) / "server.log"
    found = _CHECK.findall(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
    if found:
        yield "server, at its last start: is it the model that was judged?", float(found[-1])
    # Of a version that came back after a rollback, `since` is when it did.
    took = (parse_timestamp(live.since) - parse_timestamp(judged.finished_at)).total_seconds()
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
