"""How often models for an endpoint were judged on this machine, by the statements that every judgement leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from slipway.local.state import State
from slipway_core.protocol import envelope
from slipway_core.protocol.envelope import EnvelopeError
from slipway_core.protocol.statement import Judgement
from slipway_core.rollout.observed import RunJudgements

_REST = timedelta(seconds=5)
"""Between two looks at the folders of statements, of which there is one a model."""


@dataclass
class Judgements:
    """Reads each statement once: what a file of this name says of data and time never changes, whoever signs it.

    Whether a key is trusted is of no matter here: upon what was judged it was judged.
    """

    state: State
    clock: Callable[[], datetime]
    _read: dict[Path, Judgement] = field(default_factory=dict[Path, Judgement])
    _looked: datetime | None = None

    def of(self, endpoint: str) -> tuple[RunJudgements, ...]:
        """Returns the runs whose models were judged for an endpoint, and how often each."""
        self._look()
        runs: dict[str, list[Judgement]] = {}
        for one in self._read.values():
            # An evaluation that crashed names no data, and told nobody anything.
            if one.endpoint == endpoint and one.data.held_out and one.data.sketch:
                runs.setdefault(one.run.uid, []).append(one)
        return tuple(_judged(uid, judged) for uid, judged in sorted(runs.items()))

    def _look(self) -> None:
        now = self.clock()
        if self._looked is not None and self._looked <= now < self._looked + _REST:
            return
        self._looked = now
        there = set(self._files())
        self._read = {path: one for path, one in self._read.items() if path in there}
        for path in there - self._read.keys():
            if (judgement := _judgement(path)) is not None:
                self._read[path] = judgement

    def _files(self) -> Iterator[Path]:
        return self.state.all_statements.glob("*/*.json")


def _judged(uid: str, judged: list[Judgement]) -> RunJudgements:
    newest = max(judged, key=lambda one: (one.judged_at, one.evaluation))
    return RunJudgements(uid, len(judged), newest.judged_at, "".join(newest.data.sketch))


def _judgement(path: Path) -> Judgement | None:
    """Returns what a file says; None of one that is damaged, which the model's standing tells."""
    try:
        return envelope.statement_in(envelope.read(path.read_text(encoding="utf-8", errors="replace"))).predicate
    except (EnvelopeError, OSError):
        return None
