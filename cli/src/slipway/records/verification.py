"""What `slipway verify` found: whether a model is the one that was judged, and who says that it passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from slipway.exit_codes import DONE, FAILED, NOT_LIVE
from slipway_core.protocol.statement import JudgedBy, JudgedGate
from slipway_core.protocol.trust import Flaw, Standing
from slipway_core.resources.gate_metrics import titled

_GB = 1e9


@dataclass(frozen=True)
class Finding:
    what: str
    digest: str | None = None
    files: int = 0
    """How many were hashed."""
    bytes: int = 0
    seconds: float = 0.0
    """That hashing all of them took."""
    statements: int = 0
    standing: Standing = field(default_factory=Standing)
    problem: str = ""
    """Why the files are not the model; empty where they are."""

    @property
    def code(self) -> int:
        """Returns the exit code: 0 holds and passed, 3 holds and did not pass, 1 does not hold."""
        if not self.problem and self.standing.passed:
            return DONE
        return NOT_LIVE if not self.problem and self.standing.flaw is Flaw.NOT_PASSED else FAILED

    def to_document(self) -> dict[str, Any]:
        newest = self.standing.newest
        flaw = self.standing.flaw or ("Damaged" if self.problem else "NoStatement")
        return {
            "what": self.what,
            "digest": self.digest,
            "files": self.files,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "holds": not self.problem and newest is not None,
            "passed": self.code == DONE,
            "reason": None if self.code == DONE else flaw,
            "message": self.problem or self.standing.why or None,
            "key": newest.key.id if newest else None,
            "statement": newest.statement.to_document() if newest else None,
        }

    def lines(self) -> Iterator[str]:
        """Yields what a person reads. Names of files and statements in it are somebody else's: show it as `visible`."""
        yield f"{self.what}"
        if self.digest is not None:
            yield f"  model      {self.digest}"
        if self.problem:
            yield f"  files      {self.problem}"
            yield "does not hold"
            return
        each = f", {self.seconds / (self.bytes / _GB):.2f} s a GB" if self.bytes > _GB / 10 else ""
        yield f"  files      {self.files}, {_size(self.bytes)}: all as the manifest says ({self.seconds:.2f} s{each})"
        newest = self.standing.newest
        if newest is None:
            yield f"  statement  {self.standing.why}"
            yield "does not hold"
            return
        said = newest.statement.predicate
        others = f"; the newest of {self.statements}" if self.statements > 1 else ""
        yield f"  statement  {said.judged_at}, evaluation {said.evaluation} of the run {said.run.name}{others}"
        yield f"  signed by  {newest.key.id}"
        yield f"  plan       {said.plan}"
        if said.data.held_out:
            yield f"  judged on  {said.data.held_out}"
        if said.judge is not None:
            yield from _judge(said.judge)
        yield f"  verdict    {said.verdict.value}"
        for gate in said.gates:
            yield f"    {_gate(gate)}"
        yield "holds" if self.standing.passed else f"holds, and the model did not pass: {self.standing.why}"


def _gate(gate: JudgedGate) -> str:
    value = "no value" if gate.value is None else f"{gate.value:.6g}"
    if gate.difference is not None:
        value += f", worse by {gate.difference:.6g}"
    if gate.lower is not None and gate.upper is not None:
        value += f" ({gate.lower:.6g} to {gate.upper:.6g})"
    name = titled(gate.metric, gate.source, gate.slice, gate.task)
    on = f", on {gate.data}" if gate.data is not None else ""
    return f"{name} {value}, wanted {gate.threshold}: {gate.verdict.value}{on}"


def _judge(judge: JudgedBy) -> Iterator[str]:
    beside = "" if judge.compare is None else f", beside {judge.compare}"
    yield f"  judge      {judge.model} at {judge.url}{beside}, each question put {judge.repeats} times"
    shares = {"both orders": judge.agreement.orders, "repeats": judge.agreement.repeats}
    agreed = "".join(f"; {of} agree by {share:.2f}" for of, share in shares.items() if share is not None)
    yield f"  criteria   {judge.criteria}{agreed}"


def _size(number: int) -> str:
    return f"{number / _GB:.2f} GB" if number >= _GB / 10 else f"{number / 1e6:.1f} MB"
