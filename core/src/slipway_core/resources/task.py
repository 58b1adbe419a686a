"""A task of lm-evaluation-harness that a model is measured on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slipway_core.resources.api import Api, ShortText, Uri

TASK_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
"""Names of tasks: letters, digits, dots, dashes and underscores."""
TaskName = Annotated[str, Field(pattern=TASK_PATTERN, max_length=63)]


class TaskFile(Api):
    """Rows of a task in place of those that it names, or the file that defines it."""

    uri: Uri
    """A .jsonl, .json, .csv, .tsv, .txt, .parquet or .arrow file, or a folder or glob of such, with the columns that
    the task reads; or the .yaml file of a task that lm-evaluation-harness does not ship."""
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,63}$", max_length=63)] | None = None
    """Which split of the task its rows are; left out, the one that is judged."""
    credentials: ShortText | None = None
    """Secret for a private source, with the keys that those of a model have. Locally, the environment is used."""


class HarnessTask(Api):
    """One task. Left as it is, what it gives is what `lm_eval --model hf --tasks NAME` gives on the same model."""

    name: TaskName
    """By which lm-evaluation-harness knows it, such as arc_easy, gsm8k or cmmlu_law; or that of the file in `data`."""
    data: Annotated[list[TaskFile], Field(min_length=1, max_length=16)] | None = None
    """Files in place of the dataset that the task names. Left out, prepare fetches that from the hub, at one commit."""
    fewshot: Annotated[int, Field(ge=0, le=100)] | None = None
    """Examples before each document, as --num_fewshot; as many as the task says, else none, when left out."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The first so many documents alone, as --limit; all of them when left out."""
