"""Where runs and endpoints are: the state folder of this machine, or a namespace of a cluster.

The commands speak to a Target, so that each does the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from slipway.exit_codes import BadInput

if TYPE_CHECKING:
    import httpx

    from slipway.diagnosis.run_findings import Evidence
    from slipway.records.files import Files
    from slipway.start_wait import StartWait
    from slipway.training_metrics import StageMetrics
    from slipway_core.resources.model_endpoint import ModelEndpoint
    from slipway_core.resources.status import HeldOutStatus
    from slipway_core.resources.training_run import TrainingRun

Write = Callable[[str], None]
"""Takes text for standard output."""


@dataclass(frozen=True)
class LogRequest:
    """Whose logs, and which of them."""

    name: str | None
    """A run or an endpoint; the newest run when None."""
    step: str | None = None
    """A step, or `serve` for the endpoint of a run; all steps when None."""
    attempt: int | None = None
    """The newest when None."""
    follow: bool = False
    """Go on as they grow, until nobody writes them any more."""


@dataclass(frozen=True)
class Reached:
    """A server that can be talked to."""

    url: str
    """Ends in a slash."""
    title: str
    """What a person is told."""
    transport: httpx.BaseTransport | None = None
    """How requests get there; None for the usual way."""


@dataclass(frozen=True)
class OrphanedFolder:
    """What a run left in a cluster that is gone."""

    run: str
    uid: str
    namespace: str
    record: str
    """ConfigMap that says what lies there."""
    place: str | None
    """`CLAIM/FOLDER`; None until the operator has marked it."""
    since: str | None
    """Since when nothing keeps what goes next."""
    goes: datetime | None
    """When it goes, but for what is kept; None where that is not known."""
    now: bool
    """Whether somebody asked for it to go at once."""
    kept_by: str | None
    """Who keeps the model in it."""

    @property
    def folder(self) -> str:
        """Its own name, which means it alone: a run of the name of the one that left it may be there."""
        from slipway_core.protocol.workspace import run_folder

        return self.place.rpartition("/")[2] if self.place else run_folder(self.run, self.uid)


def bare_command(*words: str) -> str:
    """Returns a command of these words as one types it for the state folder, which needs no options."""
    return " ".join(("slipway", *words))


def steps_of(run: TrainingRun) -> list[str]:
    """The steps of a run in the order in which they run."""
    publishes = run.spec.tracking is not None or run.spec.export.push is not None
    fixed = ["export", "evaluate", *(["publish"] if publishes else [])]
    return ["prepare", *(stage.name for stage in run.spec.stages), *fixed]


def check_step(wanted: LogRequest, run: TrainingRun) -> None:
    """Raises BadInput when the run has no such step."""
    steps = steps_of(run)
    if wanted.step is not None and wanted.step not in steps:
        message = f"--stage {wanted.step}: run {run.name} has no such step; it has {', '.join(steps)} and serve"
        raise BadInput(message)


class Target(Protocol):
    """Every method raises exits.CliError, or StateError on this machine, whose message says what to do."""

    @property
    def title(self) -> str:
        """What a person calls it: the path of a folder, a namespace and its context."""
        ...

    @property
    def start(self) -> str:
        """The command that starts a run here."""
        ...

    def command(self, *words: str) -> str:
        """Returns a command of these words, with the options that lead here: what a hint tells a person to type."""
        ...

    def everywhere(self) -> Target:
        """Returns the same cluster with all its namespaces."""
        ...

    def runs(self) -> list[TrainingRun]:
        """All runs with their status, oldest first; one that cannot be read is named on stderr and left out."""
        ...

    def endpoints(self) -> list[ModelEndpoint]: ...

    def find(self, name: str) -> TrainingRun | ModelEndpoint:
        """Returns the run or the endpoint of that name; `endpoint/NAME` where both have it."""
        ...

    def run(self, name: str | None) -> TrainingRun:
        """Returns the run of that name with its status, or the newest one."""
        ...

    def idle(self, run: TrainingRun) -> str | None:
        """Returns why a run that is not finished does not move, and what to do; None while somebody is at work."""
        ...

    def unattended(self, run: TrainingRun) -> str | None:
        """Returns that nobody looks after the runs of its namespace, and what to do; None where somebody does, where
        this user cannot know, or where whoever works on a run is of this machine (`idle` says it then)."""
        ...

    def follow(self, name: str | None) -> Iterator[TrainingRun]:
        """Yields the run as it changes, until it is finished and its model is not waited for, or nobody is at work on
        it."""
        ...

    def start_wait(self, run: TrainingRun, within: timedelta | None) -> StartWait | None:
        """Returns what bounds how long the model of a run is waited for once it passed; None of one that serves none.

        Args:
            within: what whoever waits asked for; `rollout.startTimeout` of the endpoint when None.
        """
        ...

    def exit_code(self, run: TrainingRun) -> int:
        """Returns the exit code of a run that went no further than its status says."""
        ...

    def logs(self, wanted: LogRequest, write: Write) -> None: ...

    def curves(self, run: TrainingRun) -> list[StageMetrics]:
        """Returns what every stage has logged that has logged something."""
        ...

    def evidence(self, run: TrainingRun) -> Evidence:
        """Returns what there is to judge a run by."""
        ...

    def files(self, run: TrainingRun, names: Sequence[str]) -> Files:
        """Returns those of the files of a run's workspace that there are, by their names below it."""
        ...

    def folder(self, uri: str, names: Sequence[str]) -> Files:
        """Returns those of the files that there are in the folder at a URI; where it cannot be read, why."""
        ...

    def statements(self, digest: str) -> Files:
        """Returns the signed judgements of a model, as they are kept here; whether they hold is not looked at."""
        ...

    def held_out(self, endpoint: str) -> HeldOutStatus | None:
        """Returns how often held-out data was used to judge models for an endpoint, which may not be there yet."""
        ...

    def reach(self, name: str | None) -> AbstractContextManager[Reached]:
        """Opens a way to the server of an endpoint, or of a run's; the one that serves when the name is None."""
        ...

    def approve(self, name: str, digest: str | None) -> Iterator[str]:
        """Says what waits for an approval at an endpoint, or at that of a run, and approves it where the digest is
        given."""
        ...

    def stop(self, name: str | None) -> Iterator[str]:
        """Stops an endpoint, or has a run checkpoint and end. Yields what happens as it happens, for a person."""
        ...

    def resume(self, name: str) -> Iterator[str]:
        """Takes up again what was stopped, or failed."""
        ...

    def remove(self, name: str, *, now: bool = False) -> Iterator[str]:
        """Removes a run, or an endpoint that is called `endpoint/NAME`. `now`: what the run leaves goes at once."""
        ...

    def orphaned(self) -> list[OrphanedFolder]:
        """Returns the folders of runs that are gone, the oldest first."""
        ...

    def reevaluate(self, name: str | None, *, as_json: bool) -> int:
        """Has a held run judged again, shows it, and returns its exit code."""
        ...


def judgements(target: Target, run: TrainingRun) -> int | None:
    """Returns how many judgements for the run's endpoint used data that shares documents with the run's own, as far as
    is known; None where the run has no endpoint, or nothing was held out or judged yet."""
    from slipway_core.rollout import wear

    sketch = run.status.held_out_sketch if run.status else None
    if run.spec.serving is None or not sketch:
        return None
    return wear.judgements_upon(target.held_out(run.spec.serving.endpoint), sketch) or None
