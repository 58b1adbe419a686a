"""The exit codes that every stage process speaks, on a laptop and in a pod, and what an executor does about each."""

from __future__ import annotations

from enum import StrEnum

DONE = 0
BAD_INPUT = 2
RESTARTABLE = 75
LOST_PEERS = 76


class ExitClass(StrEnum):
    """What an exit means for the stage, gravest last (see `gravest`)."""

    DONE = "Done"
    LOST_PEERS = "LostPeers"
    """Never the cause: another rank or node failed first."""
    INTERRUPTED = "Interrupted"
    """Stopped by SIGTERM after a checkpoint, or evicted: tried again and not counted."""
    FAILED = "Failed"
    """Anything else: counted against the retry limit."""
    BAD_INPUT = "BadInput"
    """The configuration or the data is wrong: trying again cannot help."""


_GRAVITY = (
    ExitClass.DONE,
    ExitClass.LOST_PEERS,
    ExitClass.INTERRUPTED,
    ExitClass.FAILED,
    ExitClass.BAD_INPUT,
)


def classify(code: int) -> ExitClass:
    """Returns the class of an exit code. A negative code is a signal, as `subprocess` reports it."""
    match code:
        case 0:
            return ExitClass.DONE
        case 2:
            return ExitClass.BAD_INPUT
        case 75:
            return ExitClass.INTERRUPTED
        case 76:
            return ExitClass.LOST_PEERS
        case _:
            return ExitClass.FAILED


def shell_code(code: int) -> int:
    """Returns the code as a shell and a kubelet print it: death by signal n is 128 + n."""
    return 128 - code if code < 0 else code


def gravest(classes: list[ExitClass]) -> ExitClass:
    """Returns the class that stands for all ranks of an attempt. Raises ValueError on an empty list."""
    return max(classes, key=_GRAVITY.index)


def gravest_code(codes: list[int]) -> int:
    """Returns the exit code with which a launcher passes on those of its ranks: the first one of the gravest class."""
    return max(codes, key=lambda code: _GRAVITY.index(classify(code)))
