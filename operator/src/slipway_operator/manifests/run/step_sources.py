"""What each step of a run reads from outside of its workspace, and with which Secret: no step gets more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slipway_core.plan import Plan
from slipway_core.protocol.commands import Baseline
from slipway_core.resources import uris
from slipway_core.resources.data import DataSource
from slipway_core.resources.evaluation import PromptSource
from slipway_core.resources.task import TaskFile
from slipway_operator.manifests.pod.credentials import Source


def of(plan: Plan, step: str, baseline: Baseline | None = None) -> list[Source]:
    """Returns the sources of a step.

    Data is read once, by prepare, and so is a base model of an object store or the hub, which it keeps in the
    workspace; stages and export start from any other one where it is, and so does evaluate where the artifact is an
    adapter or a gate compares with the base; else evaluate reads what prepare kept, and the live version; publish
    reads nothing else than what the run made.

    Args:
        plan: of the run.
        step: one of plan.steps.
        baseline: the live version, for evaluate.
    """
    match step:
        case "publish":
            return []
        case "prepare":
            return [*_model(plan), *_tokenizer(plan), *_data(plan)]
        case "evaluate":
            live = [Source(baseline.uri, baseline.credentials, "the endpoint's model.uri")] if baseline else []
            return [*(_base(plan) if plan.exports_adapter or plan.compares_with_base else ()), *live]
        case _:
            return list(_base(plan))


def _base(plan: Plan) -> Iterator[Source]:
    """Yields a base model that prepare has not brought into the workspace."""
    return (source for source in _model(plan) if not uris.parse(source.uri).remote)


def _model(plan: Plan) -> Iterator[Source]:
    if plan.model.from_ is not None:
        yield Source(plan.model.from_, plan.model.credentials, "model.from")


def _tokenizer(plan: Plan) -> Iterator[Source]:
    scratch = plan.model.scratch
    if scratch is not None and scratch.tokenizer.from_ is not None:
        yield Source(scratch.tokenizer.from_, plan.model.credentials, "model.scratch.tokenizer.from")


def _data(plan: Plan) -> Iterator[Source]:
    for number, stage in enumerate(plan.stages):
        validation = stage.data.validation
        yield from _named(f"stages[{number}].data.train", stage.data.train)
        yield from _named(f"stages[{number}].data.validation.data", (validation.data if validation else None) or [])
    yield from _named("evaluation.data", plan.evaluation.data)
    yield from _named("evaluation.prompts", plan.evaluation.prompts)
    for number, task in enumerate(plan.evaluation.tasks):
        yield from _named(f"evaluation.tasks[{number}].data", task.data or [])


def _named(field: str, sources: Iterable[DataSource | PromptSource | TaskFile]) -> Iterator[Source]:
    for index, source in enumerate(sources):
        yield Source(source.uri, source.credentials, f"{field}[{index}].uri")
