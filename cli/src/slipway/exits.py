"""What the exit code of `slipway` says."""

from __future__ import annotations

from slipway_core.status import Phase

DONE = 0
FAILED = 1
BAD_INPUT = 2
NOT_LIVE = 3
"""Rejected by a gate, or held because it could not be judged."""
INTERRUPTED = 130


class CliError(Exception):
    """Ends a command: the message is what a person reads, without a traceback."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class BadInput(CliError):
    """What was asked for, or the file, is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, BAD_INPUT)


def of_phase(phase: Phase) -> int:
    """Returns the exit code of a run that went no further than this phase."""
    match phase:
        case Phase.SERVING | Phase.COMPLETED:
            return DONE
        case Phase.REJECTED | Phase.HELD:
            return NOT_LIVE
        case Phase.FAILED:
            return FAILED
        case _:
            return INTERRUPTED
