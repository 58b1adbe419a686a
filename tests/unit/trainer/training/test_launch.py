"""How ranks are laid out, and how they end as one process."""

from typing import Any

import pytest

from slipway_core.protocol import exit_codes
from slipway_core.protocol.step_result import StepError, StepResult
from slipway_core.resources.compute import Compute
from slipway_core.resources.status import Progress
from slipway_trainer.step import errors
from slipway_trainer.training import launch
from slipway_trainer.training.launch import Layout, layout

DONE = StepResult(step="s", attempt=1, metrics={"loss": 1.0})


def failed(kind: str) -> StepResult:
    return StepResult(step="s", attempt=1, error=StepError(kind=kind, message=f"it was {kind}"))


def test_locally_all_nodes_are_here() -> None:
    where = layout(Compute(nodes=2, processes_per_node=3), {})
    assert (where.nodes, where.processes, where.world) == (1, 6, 6)


def test_in_a_pod_the_executor_says_which_node_this_is() -> None:
    environment = {"SLIPWAY_NODE_RANK": "1", "SLIPWAY_MASTER_ADDR": "run-0.run"}
    assert layout(Compute(nodes=2, processes_per_node=3), environment) == Layout(2, 1, 3, "run-0.run", 29400)
    assert layout(Compute(nodes=1, processes_per_node=3), environment).nodes == 1


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
        launch._outcome(dict(enumerate(results)), codes)
    assert (found.value.kind, found.value.exit_code) == (kind, code)


def test_rank_0_speaks_for_ranks_that_ended_well() -> None:
    assert launch._outcome({1: DONE.model_copy(update={"metrics": {}}), 0: DONE}, []) == DONE


def test_where_rank_0_was_goes_with_the_failure() -> None:
    reached = Progress(step=7, total=9)
    results = {1: failed("Interrupted"), 0: failed("Interrupted").model_copy(update={"progress": reached})}
    with pytest.raises(errors.Interrupted) as found:
        launch._outcome(results, [75])
    assert found.value.progress == reached


def test_a_killed_rank_is_explained() -> None:
    with pytest.raises(errors.StepFailure, match="killed by SIGKILL: the kernel does that when memory runs out"):
        launch._outcome({}, [-9])


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("Broken pipe"), False),
    ],
)
def test_a_lost_peer_is_told_from_a_fault_of_ones_own(error: Exception, lost: bool) -> None:
    assert launch.is_lost_peer(error) is lost


@pytest.mark.parametrize("kind", ["BadData", "Diverged", "Interrupted", "LostPeers", "NoSpace", "Superseded"])
def test_a_kind_keeps_its_exit_code_over_the_launcher(kind: str) -> None:
    made: Any = launch.as_failure(kind, "why")
    assert made.kind == kind
    assert made.exit_code == getattr(errors, kind).exit_code


def test_the_grace_period_is_a_little_shorter_than_the_executors() -> None:
    assert launch.grace_seconds({"SLIPWAY_GRACE_SECONDS": "120"}) == 118
    assert launch.grace_seconds({"SLIPWAY_GRACE_SECONDS": "soon"}) == 28
    assert launch.grace_seconds({}) == 28
    assert exit_codes.LOST_PEERS == 76
