"""How ranks are laid out, and how long they have to end."""

from slipway_core.protocol import exit_codes
from slipway_core.resources.compute import Compute
from slipway_trainer.training.launching import launch
from slipway_trainer.training.launching.launch import Layout, layout


def test_locally_all_nodes_are_here() -> None:
    where = layout(Compute(nodes=2, processes_per_node=3), {})
    assert (where.nodes, where.processes, where.world) == (1, 6, 6)


def test_in_a_pod_the_executor_says_which_node_this_is() -> None:
    environment = {"SLIPWAY_NODE_RANK": "1", "SLIPWAY_MASTER_ADDR": "run-0.run"}
    assert layout(Compute(nodes=2, processes_per_node=3), environment) == Layout(2, 1, 3, "run-0.run", 29400)
    assert layout(Compute(nodes=1, processes_per_node=3), environment).nodes == 1


def test_the_grace_period_is_a_little_shorter_than_the_executors() -> None:
    assert launch.grace_seconds({"SLIPWAY_GRACE_SECONDS": "120"}) == 118
    assert launch.grace_seconds({"SLIPWAY_GRACE_SECONDS": "soon"}) == 28
    assert launch.grace_seconds({}) == 28
    assert exit_codes.LOST_PEERS == 76
