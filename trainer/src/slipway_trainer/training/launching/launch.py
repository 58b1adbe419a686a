"""Starts the ranks of a stage on this node, and waits for them as one process."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway_core.plan import Plan
from slipway_core.protocol import exit_codes, variables
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.compute import Compute
from slipway_host.limits import usable_physical_cores
from slipway_trainer.step import parent_death
from slipway_trainer.step.errors import BadConfig, LostPeers
from slipway_trainer.training.launching import rank_outcome

NODE_RANK_VARIABLE = "SLIPWAY_NODE_RANK"
"""Environment variable: number of this pod among the nodes of the stage. Unset, all ranks start here."""
MASTER_VARIABLE = "SLIPWAY_MASTER_ADDR"
"""Environment variable: host name of node 0."""
PORT_VARIABLE = "SLIPWAY_MASTER_PORT"
LAUNCHER_VARIABLE = "SLIPWAY_LAUNCHER_PID"
"""Environment variable: set for the ranks; they end with this process."""
DEFAULT_PORT = 29400
DEFAULT_GRACE_SECONDS = 30
JOIN_SECONDS = 1800
"""How long a node waits for the others to come. They may have no place yet, or pull an image of 20 GB: torchrun's own
600 s would end an attempt before its executor has seen to that."""
PEER_SECONDS = 30.0
"""A launcher that lost the others waits this long for an error of its own ranks: theirs may be the cause."""


@dataclass(frozen=True)
class Layout:
    """Where the ranks of a stage are."""

    nodes: int
    node_rank: int
    processes: int
    """On this node."""
    master: str
    port: int

    @property
    def world(self) -> int:
        return self.nodes * self.processes


def layout(compute: Compute, environment: Mapping[str, str] = os.environ) -> Layout:
    """Returns where the ranks are: spread over pods when the executor says which one this is, else all here.

    How many they are is what the executor says of this attempt, and what the plan says where it says nothing.

    Raises BadConfig where a number of the executor is none.
    """
    nodes = _number(variables.NODES_VARIABLE, compute.nodes, environment)
    processes = _number(variables.PROCESSES_VARIABLE, compute.processes_per_node, environment)
    if NODE_RANK_VARIABLE not in environment or nodes == 1:
        return Layout(1, 0, nodes * processes, "127.0.0.1", 0)
    return Layout(
        nodes=nodes,
        node_rank=int(environment[NODE_RANK_VARIABLE]),
        processes=processes,
        master=environment.get(MASTER_VARIABLE, "127.0.0.1"),
        port=int(environment.get(PORT_VARIABLE, DEFAULT_PORT)),
    )


def is_first(compute: Compute, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether rank 0 is on this node. Raises BadConfig where a number of the executor is none."""
    return layout(compute, environment).node_rank == 0


def _number(variable: str, planned: int, environment: Mapping[str, str]) -> int:
    said = environment.get(variable, str(planned))
    if not said.isdecimal() or int(said) < 1:
        raise BadConfig(f"{variable}: {said!r} is no number of at least 1; the executor sets it for each attempt")
    return int(said)


def run_ranks(where: Layout, plan: Plan, ws: Workspace, *, stage: str, attempt: int) -> StepResult:
    """Starts the ranks of this node, waits for them and returns what rank 0 reported (an empty result on other nodes).

    A signal to this process goes on to the ranks, which have the grace period to write a checkpoint.

    Raises the gravest failure of the ranks: wrong input before any other, before an interruption, before lost peers.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    with tempfile.TemporaryDirectory(prefix="slipway-ranks-") as folder:
        # The plan as this process read it: a file may change under a run.
        plan_file = Path(folder, "plan")
        plan_file.write_text(plan.to_json(), encoding="utf-8")
        command = [
            "-u",
            "-m",
            "slipway_trainer.training.launching.rank",
            "--plan",
            str(plan_file),
            "--workspace",
            str(ws.root),
        ]
        command += ["--stage", stage, "--attempt", str(attempt), "--results", folder]
        _share_cores(where)
        local = where.nodes == 1
        config = LaunchConfig(
            min_nodes=where.nodes,
            max_nodes=where.nodes,
            nproc_per_node=where.processes,
            run_id=f"{plan.run.uid}-{stage}-{attempt}",
            rdzv_backend="c10d" if local else "static",
            rdzv_endpoint="127.0.0.1:0" if local else f"{where.master}:{where.port}",
            rdzv_configs={} if local else {"rank": where.node_rank, "timeout": JOIN_SECONDS},
            local_addr="127.0.0.1" if local else None,
            max_restarts=0,
            monitor_interval=0.2,
            shutdown_timeout=grace_seconds(),
            # By itself torch makes a folder for them that it never removes.
            logs_specs=DefaultLogsSpecs(log_dir=str(Path(folder, "logs"))),
        )
        codes: list[int] = []
        lost: Exception | None = None
        try:
            launch_agent(config, sys.executable, command)
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
        except SignalException:
            # The ranks were told too and have ended; what they say is in their files.
            codes = [exit_codes.RESTARTABLE]
        except Exception as error:
            lost = error
        results = rank_outcome.read_results(
            Path(folder), seconds=PEER_SECONDS if lost else 0.0, expected=where.processes
        )
        if lost is not None and not any(result.error for result in results.values()):
            raise LostPeers(f"the other nodes cannot be reached any more: {lost}")
        return rank_outcome.outcome(results, codes)


def grace_seconds(environment: Mapping[str, str] = os.environ) -> int:
    """Returns how long the ranks may take to write a checkpoint; a little less than the executor waits for us."""
    try:
        return max(1, int(float(environment.get(variables.GRACE_VARIABLE, DEFAULT_GRACE_SECONDS))) - 2)
    except ValueError:
        return DEFAULT_GRACE_SECONDS - 2


def die_with_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Makes the kernel kill this rank with its launcher: a rank alone would hold memory and ports for ever."""
    launcher = int(environment.get(LAUNCHER_VARIABLE, "0"))
    if launcher:
        parent_death.die_with_parent(launcher, exit_code=exit_codes.LOST_PEERS)


def _share_cores(where: Layout) -> None:
    """Divides the physical cores among the ranks: more threads than cores make all of them slower."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_physical_cores() // where.processes)))
    os.environ[LAUNCHER_VARIABLE] = str(os.getpid())
    if where.nodes == 1:
        # gloo looks up the host's name otherwise, which may lead nowhere on a laptop.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
