"""The verdict of a run as the step publish is told it: from the status, which nobody else can write."""

from __future__ import annotations

from pydantic import Field

from slipway_core.resources.api import Api
from slipway_core.resources.gate_metrics import titled
from slipway_core.resources.status import EvaluationStatus, Verdict, fit

_REASON = 1024
"""Characters: a variable of a process has 128 KiB at the most."""


class JudgedMetric(Api):
    name: str
    source: str | None = None
    slice: str | None = None
    task: str | None = None
    value: float | None = None
    threshold: str
    verdict: Verdict

    @property
    def title(self) -> str:
        """The metric with the rows that counted, as a person reads it."""
        return titled(self.name, self.source, self.slice, self.task)

    @property
    def key(self) -> str:
        """The same as one word, for trackers."""
        # Trackers take no comma, which stands before the filter of a task's metric, and no @.
        name = self.name.replace(",", ".").replace("@", ".")
        # A source, a slice and a task may have the same name, and are no one series.
        parts = {"task": self.task, "source": self.source, "slice": self.slice}
        return "/".join([name, *(f"{what}/{own}" for what, own in parts.items() if own)])


class Judged(Api):
    number: int
    """The folder `evaluation/<n>/`."""
    verdict: Verdict
    reason: str | None = None
    scored_tokens: int = 0
    data_digest: str | None = None
    artifact_digest: str | None = None
    baseline_digest: str | None = None
    metrics: list[JudgedMetric] = Field(default_factory=list[JudgedMetric])
    """One a gate."""

    @classmethod
    def of(cls, evaluation: EvaluationStatus) -> Judged:
        return cls(
            number=evaluation.number,
            verdict=evaluation.verdict,
            reason=fit(evaluation.reason, _REASON) if evaluation.reason else None,
            scored_tokens=evaluation.scored_tokens,
            data_digest=evaluation.data_digest,
            artifact_digest=evaluation.artifact_digest,
            baseline_digest=evaluation.baseline_digest,
            metrics=[
                JudgedMetric(
                    name=one.name,
                    source=one.source,
                    slice=one.slice,
                    task=one.task,
                    value=one.value,
                    threshold=one.threshold,
                    verdict=one.verdict,
                )
                for one in evaluation.metrics
            ],
        )

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def parse(cls, text: str) -> Judged:
        """Raises pydantic.ValidationError for anything that `to_json` does not write."""
        return cls.model_validate_json(text, by_alias=True, by_name=False)
