"""Weights & Biases: one run of a project. Only what is told here goes there: neither code nor console, host or git."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slipway_core.resources.tracking import Wandb
from slipway_trainer.tracking.tracker import Begun, Conclusion, Outcome, Row, TrackedRun, TrackerAway, TrackerRefuses

_SECONDS = 60.0
"""For an answer at the beginning, and for what is left to be sent at the end."""
_ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false"}
_NOTHING_BESIDE = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_git_fork_point": True,
    "disable_job_creation": True,
    "host": "slipway",
    "program": "slipway",
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


@dataclass
class WandbRun:
    run: TrackedRun
    settings: Wandb
    _run: Any = None
    _scratch: str | None = None

    def begin(self) -> Begun:
        os.environ.update(_ENVIRONMENT)
        import wandb

        offline = os.environ.get("WANDB_MODE") == "offline"
        # What it keeps to itself is of this process alone, but where somebody wants to send it later.
        self._scratch = None if offline else tempfile.mkdtemp(prefix="slipway-wandb-")
        with _in_our_words(), self._clean_where_it_fails():
            self._run = wandb.init(
                entity=self.settings.entity,
                project=self.settings.project,
                id=self.run.id,
                name=self.run.name,
                resume="allow",
                config={"slipway": {"plan_digest": self.run.plan_digest, "uid": self.run.uid}, **self.run.config},
                dir=self._scratch or str(self.run.folder),
                reinit="create_new",
                settings=wandb.Settings(
                    **_NOTHING_BESIDE, init_timeout=_SECONDS, finish_timeout=_SECONDS, finish_timeout_raises=True
                ),
            )
        if offline:
            return Begun(f"file://{self.run.folder / 'wandb'}")
        # The number of the next step there: what was told and never sent comes again.
        return Begun(str(self._run.url), axis=self._run.starting_step - 1)

    def rewind(self, axis: int) -> None:
        """Steps go forward alone there: one that comes again keeps what it was told first."""

    def log(self, rows: Sequence[Row]) -> None:
        with _in_our_words():
            for row in rows:
                self._run.log(dict(row.values), step=row.axis)

    def conclude(self, conclusion: Conclusion) -> None:
        with _in_our_words():
            self._run.summary.update({**conclusion.metrics, **conclusion.facts})

    def end(self, outcome: Outcome) -> None:
        try:
            with _in_our_words():
                self._run.finish(exit_code=1 if outcome == "failed" else 0)
        finally:
            self._clean()

    def _clean(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @contextmanager
    def _clean_where_it_fails(self) -> Iterator[None]:
        """One that is away is asked again and again, and each time the library begins a folder."""
        try:
            yield
        except BaseException:
            self._clean()
            raise


@contextmanager
def _in_our_words() -> Iterator[None]:
    from wandb import errors

    try:
        yield
    except (errors.AuthenticationError, errors.UsageError) as error:
        raise TrackerRefuses(
            f"W&B does not let us in: {_first(error)}. Set WANDB_API_KEY in the environment; on a cluster in the "
            "Secret that tracking.wandb.credentials names"
        ) from None
    except errors.CommError as error:
        said = _first(error)
        if any(word in said for word in ("401", "403", "404", "permission", "not found")):
            raise TrackerRefuses(
                f"W&B does not take it: {said}. Its key must have rights in the project, and the entity must exist"
            ) from None
        raise TrackerAway(f"W&B does not answer: {said}") from None
    except Exception as error:
        # Its own process may have ended: the library says that by exceptions that it shows to nobody else.
        raise TrackerAway(f"W&B does not answer: {_first(error)}") from None


def _first(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
