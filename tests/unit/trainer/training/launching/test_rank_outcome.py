"""How ranks end as one process."""

from typing import Any

import pytest

from slipway_core.protocol.step_result import StepError, StepResult
from slipway_core.resources.status import Progress
from slipway_trainer.step import errors
from slipway_trainer.training.launching import rank_outcome

DONE = StepResult(step="s", attempt=1, metrics={"loss": 1.0})


def failed(kind: str) -> StepResult:
    return StepResult(step="s", attempt=1, error=StepError(kind=kind, message=f"it was {kind}"))


@pytest.mark.parametrize(
    ("results", "codes", "kind", "code"),
    [
        ([failed("BadData"), failed("LostPeers")], [2, 76], "BadData", 2),
        ([failed("LostPeers"), failed("Diverged")], [76, 1], "Diverged", 1),
        ([failed("Interrupted"), failed("Interrupted")], [75], "Interrupted", 75),
        ([failed("Interrupted"), failed("LostPeers")], [75, 76], "Interrupted", 75),
        ([failed("LostPeers"), failed("LostPeers")], [76, 76], "LostPeers", 76),
        ([failed("LostPeers")], [76, -9], "Internal", 1),
        ([failed("BadData")], [2, -9], "BadData", 2),
        ([], [-9], "Internal", 1),
        ([], [75], "Interrupted", 75),
        ([failed("OutOfMemory"), failed("LostPeers")], [1, 76], "OutOfMemory", 1),
    ],
)
def test_the_gravest_failure_stands_for_all(results: list[StepResult], codes: list[int], kind: str, code: int) -> None:
    with pytest.raises(errors.StepFailure) as found:
        rank_outcome.outcome(dict(enumerate(results)), codes)
    assert (found.value.kind, found.value.exit_code) == (kind, code)


def test_rank_0_speaks_for_ranks_that_ended_well() -> None:
    assert rank_outcome.outcome({1: DONE.model_copy(update={"metrics": {}}), 0: DONE}, []) == DONE


def test_where_rank_0_was_goes_with_the_failure() -> None:
    reached = Progress(step=7, total=9)
    results = {1: failed("Interrupted"), 0: failed("Interrupted").model_copy(update={"progress": reached})}
    with pytest.raises(errors.Interrupted) as found:
        rank_outcome.outcome(results, [75])
    assert found.value.progress == reached


def test_what_rank_0_had_found_goes_with_the_failure_too() -> None:
    results = {1: failed("Interrupted"), 0: failed("LostPeers").model_copy(update={"warnings": ["a row is empty"]})}
    with pytest.raises(errors.Interrupted) as found:
        rank_outcome.outcome(results, [75])
    assert errors.warnings_of(found.value) == ["a row is empty"]


def test_a_killed_rank_is_explained() -> None:
    with pytest.raises(errors.StepFailure, match="killed by SIGKILL: the kernel does that when memory runs out"):
        rank_outcome.outcome({}, [-9])


@pytest.mark.parametrize("kind", ["BadData", "Diverged", "Interrupted", "LostPeers", "NoSpace", "Superseded"])
def test_a_kind_keeps_its_exit_code_over_the_launcher(kind: str) -> None:
    made: Any = rank_outcome.as_failure(kind, "why")
    assert made.kind == kind
    assert made.exit_code == getattr(errors, kind).exit_code
