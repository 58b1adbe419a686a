"""The processes of a stage as a group: which of them this one is, and what they tell each other."""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed
from torch._C._distributed_c10d import HashStore

TIMEOUT = datetime.timedelta(minutes=30)
_SHARED_MEMORY = "deepspeed_shm_comm"
_COLLECTIVES = (
    "all_reduce",
    "all_reduce_coalesced",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "broadcast",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_base",
    "all_gather_coalesced",
    "all_to_all_single",
    "barrier",
)
"""Methods of DeepSpeed's backend that send or wait."""

Value = TypeVar("Value")
_GROUPS: dict[str, Any] = {}


@dataclass(frozen=True)
class Ranks:
    """This process among those of the stage."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """Reads what torch's launcher sets; one process alone when it set nothing."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if "RANK" not in os.environ:
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")


def connect(ranks: Ranks) -> None:
    """Makes the process group; one process alone needs no port and no network.

    DeepSpeed would compile an operator for shared memory (g++ and ninja) when its communication starts on a CPU. It is
    used where it was built ahead, as in the train image; elsewhere plain gloo does the same work at the same speed for
    a few ranks, so the operator is said not to be there.
    """
    device = ranks.device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not distributed.is_initialized():
        if ranks.world == 1:
            distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        else:
            distributed.init_process_group(backend, timeout=TIMEOUT)
            if backend != "gloo":
                _GROUPS["host"] = distributed.new_group(backend="gloo", timeout=TIMEOUT)
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    # DeepSpeed looks for these whether or not the process group is there.
    for name, value in (("LOCAL_RANK", ranks.local_rank), ("RANK", ranks.rank), ("WORLD_SIZE", ranks.world)):
        os.environ.setdefault(name, str(value))
    with _without("mlflow"):
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Set before it is first read: reading it asks the compiler about every operator.
    deepspeed.ops.__compatible_ops__ = {_SHARED_MEMORY: built_ahead(device)}  # type: ignore[attr-defined]
    # It prints that the operator was built, whenever it has loaded it.
    with contextlib.redirect_stdout(io.StringIO()):
        deepspeed.init_distributed(dist_backend=backend, dist_init_required=False if _has_backend() else None)


def time_collectives(waiting: Callable[[], AbstractContextManager[None]]) -> None:
    """Has every collective of DeepSpeed run within what `waiting` gives, and the waiting for those that run beside: on
    CPUs, where a process that sends or waits does nothing else. Call it after `connect`, of several processes."""
    from deepspeed import comm

    backend: Any = comm.comm.cdb
    for name in _COLLECTIVES:
        setattr(backend, name, _timed(getattr(backend, name), waiting))


def _timed(collective: Callable[..., Any], waiting: Callable[[], AbstractContextManager[None]]) -> Callable[..., Any]:
    @functools.wraps(collective)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with waiting():
            work = collective(*args, **kwargs)
        return work if work is None else _TimedWork(work, waiting)

    return timed


class _TimedWork:
    """What torch gives for a collective that goes on."""

    def __init__(self, work: Any, waiting: Callable[[], AbstractContextManager[None]]) -> None:
        self._work = work
        self._waiting = waiting

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        with self._waiting():
            return self._work.wait(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


@contextlib.contextmanager
def _without(library: str) -> Iterator[None]:
    """Has what is imported meanwhile find a library missing, unless it is imported already.

    DeepSpeed imports MLflow's whole client where it is installed, for its autotuner: of 3.0 CPU-seconds of its import
    2.5 are that, in every rank of every attempt. Trackers are told by a process of their own.
    """
    hidden = library not in sys.modules
    if hidden:
        sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[library]


def built_ahead(device: torch.device) -> bool:
    """Whether DeepSpeed was installed with its operator for shared memory, which serves CPUs alone."""
    from deepspeed.git_version_info import accelerator_name, installed_ops

    return device.type == accelerator_name == "cpu" and installed_ops.get(_SHARED_MEMORY, False)


def of_first(value: Value, ranks: Ranks) -> Value:
    """Returns rank 0's value."""
    if ranks.world == 1:
        return value
    listed: list[Value] = [value]
    distributed.broadcast_object_list(listed, src=0, group=_host_group())
    return listed[0]


def of_all(value: Value, ranks: Ranks) -> list[Value]:
    """Returns the values of all ranks, in their order."""
    if ranks.world == 1:
        return [value]
    listed: list[Value] = [value] * ranks.world
    distributed.all_gather_object(listed, value, group=_host_group())
    return listed


def summed(values: list[float], ranks: Ranks) -> list[float]:
    """Returns the sums over all ranks of numbers that the host has."""
    if ranks.world == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(tensor, group=_host_group())
    return tensor.tolist()


def summed_on_device(tensor: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Returns the sum over all ranks of what is on the device, without waiting for it."""
    if ranks.world > 1:
        distributed.all_reduce(tensor)
    return tensor


def _host_group() -> Any:
    """Returns the processes as a group that talks between their hosts' memories; None where all do so anyway.

    NCCL sums up on the GPUs alone: a number of the host would go there and back, and wait for all that is computed.
    """
    return _GROUPS.get("host")


def _has_backend() -> bool:
    from deepspeed import comm

    return comm.comm.cdb is not None
