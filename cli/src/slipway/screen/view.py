"""What a person sees while a run is at work: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from slipway.diagnosis import step_warnings
from slipway.diagnosis.blockers import blockers, is_warning, sentence, title
from slipway.screen.visible import visible
from slipway_core.lifecycle.draft import STEP_WARNED, WARNED
from slipway_core.lifecycle.verdict import shown
from slipway_core.resources.api import in_words
from slipway_core.resources.conditions import find, parse_timestamp
from slipway_core.resources.events import Event
from slipway_core.resources.status import (
    EvaluationStatus,
    MetricStatus,
    Phase,
    Progress,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
)

LINE_SECONDS = 10.0
"""Between two progress lines where there is no terminal."""
_MUCH_TIME = 0.1
"""Share of the time beside computing from which it is shown."""
_MARKS = {
    StepState.PENDING: ("·", "dim"),
    StepState.RUNNING: ("▶", "cyan"),
    StepState.WAITING: ("↻", "yellow"),
    StepState.SUCCEEDED: ("✓", "green"),
    StepState.FAILED: ("✗", "red"),
}
VERDICT_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_APPLICABLE: "dim",
}


class View(Protocol):
    """Shows a run at work; used as a context manager and called after each pass of the executor."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, status: RunStatus, events: tuple[Event, ...]) -> None: ...


def choose(console: Console) -> View:
    """Returns the live table for a terminal, and lines for a pipe, a file or a CI log."""
    return TableView(console) if console.is_terminal else LineView(console)


class Told:
    """What somebody who looks on has read of what steps have found."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def news(self, status: RunStatus) -> list[str]:
        """Returns what was not told yet. It has been told then."""
        fresh = [warning for warning in step_warnings.of_run(status) if warning not in self._told]
        self._told.update(fresh)
        return fresh


class TableView:
    def __init__(self, console: Console) -> None:
        # No thread of its own: the executor starts processes, and draws after every pass anyway.
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._console = console
        self._told = Told()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, status: RunStatus, events: tuple[Event, ...]) -> None:
        for message in [*self._told.news(status), *news(status, events)]:
            self._console.print(Text(visible(f"! {message}"), style="yellow"))
        for note in _prepared(status, events):
            self._console.print(Text(visible(f"note: {note}"), style="dim"))
        waits = [Text(visible(sentence(blocker)), style="yellow") for blocker in blockers(status)]
        self._live.update(Group(steps_table(status), Text(visible(_now(status)), style="dim"), *waits), refresh=True)


class LineView:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._last_line = 0.0
        self._waits: list[str] = []
        self._told = Told()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, status: RunStatus, events: tuple[Event, ...]) -> None:
        for event in events:
            # What a step warns of is told from the status, in which it stays.
            if event.reason not in ("PhaseChanged", WARNED, STEP_WARNED) and not _is_the_end(status, event):
                self._print(event.message)
        for warning in self._told.news(status):
            self._print(f"warning: {warning}")
        for note in _prepared(status, events):
            self._print(f"note: {note}")
        waits = [sentence(blocker) for blocker in blockers(status)]
        for wait in waits:
            if wait not in self._waits:
                self._print(wait)
        self._waits = waits
        if time.monotonic() - self._last_line >= LINE_SECONDS and (doing := _doing(status)):
            self._print(doing)

    def _print(self, message: str) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._started
        # Events and blockers have names of files and others' words in them.
        self._console.print(f"{elapsed:7.1f} s  {visible(message)}", highlight=False, soft_wrap=True, markup=False)


def _doing(status: RunStatus) -> str:
    """Returns what goes on, in a line; nothing where only a person, or time, moves the run on."""
    running = next((step for step in status.stages if step.state is StepState.RUNNING), None)
    if running is None:
        # A server takes a minute to start, and more on a busy machine.
        return _now(status) if status.phase is Phase.ROLLING_OUT or _is_silent(status) else ""
    details = describe(running.progress) if running.progress else ""
    return f"{running.name}: {details}" if details else f"{running.name} {_does(status)}"


def _does(status: RunStatus) -> str:
    """Returns what a step does that has shown nothing yet."""
    names = ", ".join(title(blocker) for blocker in blockers(status) if not is_warning(blocker))
    return f"waits ({names})" if names else "runs"


def news(status: RunStatus, events: tuple[Event, ...]) -> list[str]:
    """Returns what a person should hear of beside the table."""
    return [
        event.message
        for event in events
        if event.type == "Warning" and event.reason != STEP_WARNED and not _is_the_end(status, event)
    ]


def _is_the_end(status: RunStatus, event: Event) -> bool:
    """Whether the event says what the run's last words will say again."""
    return status.phase is Phase.FAILED and event.reason in ("BadInput", "StepFailed")


def _prepared(status: RunStatus, events: tuple[Event, ...]) -> list[str]:
    """Returns what became of rows that did not fit, when prepare has just ended."""
    step = status.step("prepare")
    just_now = any(event.reason == "StepSucceeded" and event.message.startswith("prepare ") for event in events)
    return unfit_rows(step) if step is not None and just_now else []


_FATES = {
    "split": "longer than maxLength: split into several documents",
    "truncated": "longer than maxLength: cut at the last answer that fits",
    "dropped": "left out: longer than maxLength",
    "deduplicated": "left out: another row says the same, or nearly",
    "normalized": "changed by data.normalization",
    "skipped": "left out: no answer ends within maxLength",
    "unanswered": "without an answer at the end: those turns were left out",
    "opened": "opened by the assistant: its first turn is read and not learned",
}
_HELD_OUT_DROPPED = "evaluation_dropped"
"""The one metric of this form that is of no stage."""
_OVERLAPPED = "left out: in the training data, or in what the base model learned from (onOverlap: Drop)"


def unfit_rows(prepare: StepStatus) -> list[str]:
    """Returns a sentence for each kind of row that was not learned as it stands in its file."""
    sentences: list[str] = []
    for name, count in prepare.metrics.items():
        rows = f"{count:,.0f} row{'s' if count != 1 else ''}"
        if name == _HELD_OUT_DROPPED and count:
            sentences.append(f"held-out data: {rows} {_OVERLAPPED}")
        place, _, fate = name.rpartition("_")
        stage, _, split = place.rpartition("_")
        if stage and fate in _FATES and count:
            sentences.append(f"{stage}, {split} data: {rows} {_FATES[fate]}")
    return sentences


def steps_table(status: RunStatus, now: datetime | None = None, *, whole: bool = False) -> Table:
    """Returns one row a step: how it stands, how far it is, how long it took.

    Args:
        whole: not to be cut off where the console ends.
    """
    table = Table.grid(padding=(0, 2), expand=not whole)
    longest = max((len(step.name) for step in status.stages), default=0)
    for name, width in (("mark", 1), ("step", longest), ("bar", 12), ("took", 12)):
        table.add_column(name, no_wrap=True, width=width)
    table.add_column("details", no_wrap=True, overflow="ellipsis", ratio=1)
    for step in status.stages:
        mark, style = _MARKS[step.state]
        progress = step.progress
        bar: ProgressBar | str = ""
        if progress is not None and progress.total and step.state is not StepState.PENDING:
            bar = ProgressBar(total=progress.total, completed=progress.step, width=12)
        took, details = Text(_took(step, now)), Text(visible(_details(status, step)))
        table.add_row(Text(mark, style=style), Text(visible(step.name)), bar, took, details)
    return table


def describe(progress: Progress) -> str:
    """Returns progress in one line: step, losses, rate, speed, what holds it up, time left."""
    if progress.message and not progress.total:
        return progress.message
    parts = [f"step {progress.step}/{progress.total}"] if progress.total else []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.validation_loss is not None:
        parts.append(f"val {progress.validation_loss:.3f}")
    if progress.accuracy is not None:
        parts.append(f"accuracy {progress.accuracy:.2f}")
    if progress.learning_rate is not None:
        parts.append(f"lr {progress.learning_rate:.2e}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tok/s")
    if progress.mfu is not None:
        parts.append(f"MFU {progress.mfu:.0%}")
    parts += _waits(progress.time_shares or {})
    if progress.eta_seconds is not None:
        parts.append(f"{in_words(progress.eta_seconds)} left")
    if progress.message:
        parts.append(progress.message)
    return ", ".join(parts)


def _waits(shares: Mapping[str, float]) -> list[str]:
    """Returns what takes much of the time beside computing: where a training can be made faster."""
    return [f"{share:.0%} {part}" for part, share in shares.items() if part != "compute" and share >= _MUCH_TIME]


def places(status: RunStatus) -> dict[str, str]:
    """Returns where people see what the run told others, by tracker: what the newest step says. TensorBoard has no
    address, but a folder that it is started with."""
    found: dict[str, str] = {}
    for step in status.stages:
        found |= (step.progress.links or {}) if step.progress is not None else {}
    return {name: _place(name, link) for name, link in found.items()}


def _place(name: str, link: str) -> str:
    folder = link.removeprefix("file://")
    return f"tensorboard --logdir {folder}" if name == "tensorboard" and folder != link else folder


def baseline_note(evaluation: EvaluationStatus) -> Text | None:
    """Whether the live version has learned from what it is compared on, as far as that is known."""
    if evaluation.baseline_note is None:
        return None
    return Text(visible(evaluation.baseline_note), style="yellow" if evaluation.baseline_overlap else "dim")


def verdict_table(metrics: list[MetricStatus]) -> Table:
    """Returns one row a gate."""
    table = Table("gate", "measured", "asked", "verdict", box=None, pad_edge=False, header_style="dim")
    for metric in metrics:
        value = "–" if metric.value is None else shown(metric)
        verdict = Text(metric.verdict.value, style=VERDICT_STYLES[metric.verdict])
        if metric.reason:
            verdict.append(visible(f" ({metric.reason})"), style="dim")
        title, threshold = Text(visible(metric.title)), Text(visible(metric.threshold))
        table.add_row(title, value, threshold, verdict)
    return table


def _details(status: RunStatus, step: StepStatus) -> str:
    if step.state is StepState.FAILED or step.state is StepState.WAITING:
        return step.message or ""
    parts = [f"attempt {step.attempt}"] if step.attempt > 1 else []
    done = step.state is StepState.SUCCEEDED
    if done and (step.progress is None or not step.progress.total):
        parts.append(_made(status, step))
    elif step.progress is not None:
        of_now: dict[str, None] = {"eta_seconds": None, "learning_rate": None, "time_shares": None}
        parts.append(describe(step.progress.model_copy(update=of_now if done else {})))
    return ", ".join(part for part in parts if part)


def _made(status: RunStatus, step: StepStatus) -> str:
    """Returns what a step without training steps has made, in place of what it said last."""
    figures = step.metrics
    if step.name == "prepare":
        tokens = sum(value for name, value in figures.items() if name.endswith("_train_tokens"))
        held = figures.get("evaluation_documents", 0)
        parts = [(tokens, "tokens to learn from"), (held, "held-out documents")]
        return ", ".join(f"{count:,.0f} {what}" for count, what in parts if count)
    if step.name == "export" and "bytes" in figures:
        weights = f"{figures['parameters']:,.0f} parameters, " if "parameters" in figures else ""
        return f"{weights}{figures['bytes'] / 2**20:,.1f} MiB"
    if step.name == "evaluate" and status.evaluation is not None:
        return status.evaluation.verdict.value
    return ""


def _took(step: StepStatus, now: datetime | None) -> str:
    if step.started_at is None:
        return ""
    ended = step.finished_at if step.state in (StepState.SUCCEEDED, StepState.FAILED) else None
    end = parse_timestamp(ended) if ended else (now or datetime.now(UTC))
    return in_words((end - parse_timestamp(step.started_at)).total_seconds())


def _is_silent(status: RunStatus) -> bool:
    """Whether the model is live and does not answer."""
    live = find(status.conditions, "Live")
    return status.phase is Phase.SERVING and live is not None and live.status == "False"


def _now(status: RunStatus) -> str:
    if status.phase is Phase.SUSPENDED:
        return status.phase.value  # What moves it on depends upon where it is: the last words say it.
    progressing = find(status.conditions, "Live" if _is_silent(status) else "Progressing")
    message = progressing.message if progressing else ""
    return f"{status.phase.value}: {message}" if status.phase is not Phase.PENDING or message else "Pending"
