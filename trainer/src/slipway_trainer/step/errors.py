"""What can go wrong in a step, as the executor and the user hear of it: a kind, a message and an exit code."""

from __future__ import annotations

from typing import ClassVar

from slipway_core.protocol import exit_codes
from slipway_core.resources.status import Progress


class StepFailure(Exception):
    """A step ends with this. `kind` goes into the result, `exit_code` tells the executor what to do about it."""

    kind: ClassVar[str] = "Internal"
    exit_code: ClassVar[int] = 1
    progress: Progress | None = None
    """Where a training stage was; it tells an interruption that got on from one that did not."""


class InputError(StepFailure):
    """The configuration or the data is wrong: trying again cannot help."""

    kind = "BadInput"
    exit_code = exit_codes.BAD_INPUT


class BadConfig(InputError):
    """A field of the plan asks for what cannot be."""

    kind = "BadConfig"


class PlanChanged(StepFailure):
    """Another plan lies where the attempt's was: somebody put it there, and the executor puts its own back."""

    kind = "PlanChanged"


class BadData(InputError):
    """A file, or a row of it, is not what its stage needs."""

    kind = "BadData"


class BadModel(InputError):
    """The base model, its tokenizer or its chat template cannot be used."""

    kind = "BadModel"


class Overlap(InputError):
    """Evaluation data stands in the training data (invariant C)."""

    kind = "Overlap"


class NoSpace(InputError):
    """The disk is too small for what the step will write."""

    kind = "NoSpace"


class FetchFailed(StepFailure):
    """What lies in an object store or on the hub could not be brought here; it may be otherwise at another time."""

    kind = "FetchFailed"


class DamagedShard(InputError):
    """What `prepare` wrote is not there, byte for byte."""

    kind = "DamagedShard"


class BadCheckpoint(InputError):
    """A checkpoint is not what the stage wrote."""

    kind = "BadCheckpoint"


class BadArtifact(InputError):
    """The exported model is not what its manifest says."""

    kind = "BadArtifact"


class BadExport(InputError):
    """The trained model cannot be written as it would be served."""

    kind = "BadExport"


class PublishRefused(InputError):
    """A tracker or the hub takes nothing from us as we are."""

    kind = "PublishRefused"


class PublishFailed(StepFailure):
    """A tracker or the hub could not be told; it may be otherwise at another time."""

    kind = "PublishFailed"


class OutOfMemory(StepFailure):
    """The machine or the accelerator has too little memory."""

    kind = "OutOfMemory"


class Diverged(StepFailure):
    """The loss is no longer a number."""

    kind = "Diverged"


class Interrupted(StepFailure):
    """Stopped by a signal; the step goes on where it was when it is started again."""

    kind = "Interrupted"
    exit_code = exit_codes.RESTARTABLE


class Stop(BaseException):
    """A signal says stop, wherever the step is just then. The frame makes Interrupted of it.

    It is no Exception: what a library raises is often taken for what is wrong with a file, and a stop in the middle of
    loading one is nothing that is wrong with it.
    """


class Superseded(StepFailure):
    """A newer attempt of the step owns the workspace; this one must not write any more."""

    kind = "Superseded"
    exit_code = exit_codes.RESTARTABLE


class LostPeers(StepFailure):
    """Another rank failed first; this one is never the cause."""

    kind = "LostPeers"
    exit_code = exit_codes.LOST_PEERS


_FOUND = "found_warnings"


def leave_warnings(error: BaseException, warnings: list[str] | None) -> None:
    """Has an error that ends a step take along what the step had found by then: an error of any kind, since only the
    frame makes a StepFailure of it."""
    if warnings:
        setattr(error, _FOUND, warnings)


def warnings_of(error: BaseException) -> list[str] | None:
    """Returns what a step had found that ended with this error; None for nothing."""
    return getattr(error, _FOUND, None)


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says; its name when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
