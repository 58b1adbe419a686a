"""What statements say of how often held-out data was judged upon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.core.statements import DIGEST, OTHER_DIGEST, OTHER_KEY, sealed

from slipway.local.judgements import Judgements
from slipway.local.state import State
from slipway.local.target import LocalTarget
from slipway_core.protocol.sketch import hashes_of, sketch_of
from slipway_core.protocol.statement import JudgedData, JudgedRun
from slipway_core.resources.status import Verdict
from slipway_core.rollout.observed import RunJudgements

OURS = sketch_of(f"poem {number}" for number in range(40))
DATA = JudgedData(held_out="sha256:" + "34" * 32, sketch=hashes_of(OURS))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.below(tmp_path)


def keep(state: State, uid: str, evaluation: int = 1, *, digest: str = DIGEST, minute: int = 0, **fields) -> Path:
    path = state.statements(digest) / f"{uid}-{evaluation}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {
        "run": JudgedRun(name="poems", uid=uid),
        "endpoint": "chat",
        "evaluation": evaluation,
        "judged_at": f"2026-01-01T12:{minute:02}:00Z",
        "data": DATA,
    }
    path.write_text(sealed(digest=digest, **{**said, **fields}))
    return path


def test_every_judgement_counts_whatever_it_said_and_whoever_signed_it(state: State) -> None:
    keep(state, "a", 1)
    keep(state, "a", 3, verdict=Verdict.FAIL, minute=5)
    keep(state, "b", digest=OTHER_DIGEST, key=OTHER_KEY, minute=2)
    keep(state, "c", endpoint="other")
    keep(state, "d", endpoint=None)
    keep(state, "crashed", data=JudgedData(sketch=hashes_of(OURS)))
    damaged = keep(state, "e")
    damaged.write_text(damaged.read_text()[:40])
    found = Judgements(state, lambda: NOON).of("chat")
    assert found == (
        RunJudgements("a", 2, "2026-01-01T12:05:00Z", OURS),
        RunJudgements("b", 1, "2026-01-01T12:02:00Z", OURS),
    )
    assert Judgements(state, lambda: NOON).of("nobody") == ()


def test_what_is_new_is_seen_a_little_later_and_what_was_damaged_when_it_is_whole(state: State) -> None:
    now = [NOON]
    judgements = Judgements(state, lambda: now[0])
    path = keep(state, "a")
    whole = path.read_text()
    path.write_text("{")
    assert judgements.of("chat") == ()
    path.write_text(whole)
    assert judgements.of("chat") == ()
    now[0] += timedelta(seconds=5)
    assert [one.uid for one in judgements.of("chat")] == ["a"]


def test_the_count_of_an_endpoint_is_there_before_the_endpoint_is(state: State) -> None:
    keep(state, "a", 1)
    keep(state, "a", 2, minute=1)
    found = LocalTarget(state).held_out("chat")
    assert found is not None
    assert found.judgements == 2
