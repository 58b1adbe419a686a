"""How ranks are laid out, and how long they have to end."""

import pytest

from slipway_core.protocol import exit_codes
from slipway_core.resources.compute import Compute
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.training.launching import launch
from slipway_trainer.training.launching.launch import Layout, layout


def test_locally_all_nodes_are_here() -> None:
    where = layout(Compute(nodes=2, processes_per_node=3), {})
    assert (where.nodes, where.processes, where.world) == (1, 6, 6)


def test_in_a_pod_the_executor_says_which_node_this_is() -> None:
    environment = {"SLIPWAY_NODE_RANK": "1", "SLIPWAY_MASTER_ADDR": "run-0.run"}
    assert layout(Compute(nodes=2, processes_per_node=3), environment) == Layout(2, 1, 3, "run-0.run", 29400)
    assert layout(Compute(nodes=1, processes_per_node=3), environment).nodes == 1


def test_E_an_attempt_is_as_many_processes_as_its_executor_says_whatever_the_record_of_the_plan_says() -> None:
    told = {"SLIPWAY_NODES": "4", "SLIPWAY_PROCESSES_PER_NODE": "2"}
    planned = Compute(nodes=2, processes_per_node=3)
    assert layout(planned, {**told, "SLIPWAY_NODE_RANK": "3"}) == Layout(4, 3, 2, "127.0.0.1", 29400)
    alone = {"SLIPWAY_NODES": "1", "SLIPWAY_PROCESSES_PER_NODE": "2", "SLIPWAY_NODE_RANK": "0"}
    assert layout(planned, alone) == Layout(1, 0, 2, "127.0.0.1", 0)


@pytest.mark.parametrize("said", ["0", "-1", "two", ""])
def test_a_number_that_is_none_is_refused_by_its_name(said: str) -> None:
    with pytest.raises(BadConfig, match="SLIPWAY_NODES"):
        layout(Compute(), {"SLIPWAY_NODES": said})


def test_the_grace_period_is_a_little_shorter_than_the_executors() -> None:
    assert launch.grace_seconds({"SLIPWAY_GRACE_SECONDS": "120"}) == 118
    assert launch.grace_seconds({"SLIPWAY_GRACE_SECONDS": "soon"}) == 28
    assert launch.grace_seconds({}) == 28
    assert exit_codes.LOST_PEERS == 76
