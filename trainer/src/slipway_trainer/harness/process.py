"""The process in which the harness runs, seen from the step that asks it. This module imports nothing of it.

It is one by itself for three reasons: what its tasks' code does to a process (seeds, loggers, caches) stays there, it
can be denied the network, and a step that has no tasks does without it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from slipway_trainer.harness import worker
from slipway_trainer.harness.description import Copied, Described, Sample, Scored, Wanted
from slipway_trainer.step import child_process
from slipway_trainer.step.errors import BadConfig

INSTALL = "pip install 'slipway-trainer[tasks]'"


class Refused(ValueError):
    """A task cannot be judged; the message says why, and what to do."""


class Model(Protocol):
    """What a task asks for."""

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Returns of each pair of a context and what follows the log-likelihood of that in nats, and whether the model
        would have written it."""
        ...

    def writings(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Returns what follows each context: `until` one of some texts, which is left out, or `tokens` were written."""
        ...


def require() -> None:
    """Raises BadConfig where the harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise BadConfig(
            f"evaluation.tasks needs lm-eval, which is not installed: {INSTALL}, or leave tasks out. "
            "An image has it when it is built with TASKS=1 (docs/images.md)"
        )


@contextmanager
def opened() -> Iterator[Harness]:
    """Starts the process, and ends it in the end. Raises BadConfig where the harness is not installed."""
    require()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker.run, args=(theirs, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    with child_process.ending(process, ours):
        yield Harness(ours)


class Harness:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def describe(self, task: Wanted) -> Described:
        """Returns what a task is, without its rows. Raises Refused."""
        return Described.of_document(self._ask("describe", task=vars(task)))

    def copy(
        self, task: Wanted, rows: Mapping[str, Sequence[Path]], folder: Path, prefix: str, limit: int | None
    ) -> Copied:
        """Copies the rows of a task as Parquet, with the types that they have.

        Args:
            rows: the files of each split.
            prefix: of the names of the copies.
            limit: documents that are judged; all when None.

        Raises Refused where they cannot be read, or lack a column that the task reads.
        """
        files = {split: [str(path) for path in paths] for split, paths in rows.items()}
        told = self._ask("copy", task=vars(task), rows=files, folder=str(folder), prefix=prefix, limit=limit)
        return Copied(told["files"], told["texts"])

    def judge(
        self,
        task: Wanted,
        copies: Mapping[str, Path],
        model: Model,
        *,
        limit: int | None,
        left_out: Sequence[int] = (),
        samples: int = 0,
    ) -> Scored:
        """Judges a model on a task, from its copies.

        Args:
            limit: documents that are judged, from the first on; all when None.
            left_out: numbers of those that are not judged.
            samples: how many documents are told.

        Raises Refused, also for a ValueError of the model; what else that raises goes through.
        """
        told = self._ask(
            "judge",
            model,
            task=vars(task),
            copies={split: str(path) for split, path in copies.items()},
            limit=limit,
            left_out=list(left_out),
            samples=samples,
        )
        told["samples"] = [Sample(**one) for one in told["samples"]]
        return Scored(**told)

    def _ask(self, what: str, model: Model | None = None, **asked: Any) -> Any:
        try:
            self._connection.send((what, asked))
            while True:
                kind, told = self._connection.recv()
                match kind:
                    case "likelihoods" if model is not None:
                        self._connection.send(_tried(model.likelihoods, told))
                    case "writings" if model is not None:
                        self._connection.send(_tried(model.writings, told))
                    case "refused":
                        raise Refused(str(told))
                    case _:
                        return told
        except (EOFError, OSError):
            raise RuntimeError("the process of lm-eval ended while it was asked: its last words are above") from None


def _tried(ask: Callable[[Any], Any], asked: Any) -> tuple[str, Any]:
    """Returns what a model was found to do; where it cannot be asked so, that task alone ends."""
    try:
        return "found", ask(asked)
    except ValueError as error:
        return "failed", str(error)
