"""The status documents: what the resource, the CLI, the dashboard and the metrics all show.

`stages`, `evaluation` and `artifact` are a record that only grows; `phase` and `conditions` are computed from it and
from the world.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from slipway_core.resources.api import TEXT_LIMIT, Api, Digest, ShortText, Text
from slipway_core.resources.asked import AskedFigures
from slipway_core.resources.gate_metrics import titled

CONDITION_LIMIT = 32768
"""Characters of a condition's message, as in every condition of Kubernetes."""
METRICS_LIMIT = 64
"""Metrics that the record of one step holds."""
WARNINGS_LIMIT = 8
"""Warnings that the record of one step holds."""
WARNING_LIMIT = 512
"""Characters of each."""
_ELSEWHERE = "warnings are in the log of this step"


def fit(text: str, limit: int = TEXT_LIMIT) -> str:
    """Returns a text as a status can hold it, its end cut off: a status that breaks a limit is never written at all.

    Whatever somebody else said (a scheduler, a kubelet, a process) goes through here where it enters a record.
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def bounded_warnings(found: Iterable[str], most: int = WARNINGS_LIMIT, *, more: bool = False) -> list[str]:
    """Returns warnings as a record holds them, each once and in a line; the last one says so where there are more.

    Args:
        more: whether there are more than those.
    """
    once = list(dict.fromkeys(fit(" ".join(warning.split()), WARNING_LIMIT) for warning in found))
    if len(once) <= most and not more:
        return once
    kept = once[: most - 1]
    return [*kept, f"{'more ' if kept else ''}{_ELSEWHERE}"]


def only_warnings(lines: Iterable[str] | None) -> list[str]:
    """Returns the lines of `bounded_warnings` without the one that says that there are more."""
    return [line for line in lines or () if line.removeprefix("more ") != _ELSEWHERE]


class Phase(StrEnum):
    """A summary for people; conditions and stages carry the facts."""

    PENDING = "Pending"
    QUEUED = "Queued"
    PREPARING = "Preparing"
    TRAINING = "Training"
    EXPORTING = "Exporting"
    EVALUATING = "Evaluating"
    ROLLING_OUT = "RollingOut"
    AWAITING_APPROVAL = "AwaitingApproval"
    """The model passed, and its endpoint takes it once somebody has approved it."""
    SERVING = "Serving"
    COMPLETED = "Completed"
    REJECTED = "Rejected"
    HELD = "Held"
    FAILED = "Failed"
    SUSPENDED = "Suspended"

    @property
    def finished(self) -> bool:
        """Whether the run does nothing more by itself."""
        return self in (Phase.SERVING, Phase.COMPLETED, Phase.REJECTED, Phase.HELD, Phase.FAILED)

    @property
    def rests(self) -> bool:
        """Whether nothing but a person, or time, moves it on: it is finished, or waits for an approval."""
        return self.finished or self is Phase.AWAITING_APPROVAL


class StepState(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    WAITING = "Waiting"
    """Between two attempts."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Verdict(StrEnum):
    PASS = "Pass"
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    NOT_APPLICABLE = "NotApplicable"
    """maxRegression without a live version; it neither passes nor fails."""


class Recorded(Api):
    """Base of what a status is made of. A newer operator may have written it: what it says beyond these fields is kept,
    and neither read nor refused. A value that a field does not take is refused here too."""

    model_config = ConfigDict(extra="allow")

    @property
    def unknown(self) -> dict[str, Any]:
        """What it says beyond its fields."""
        return {name: value for name, value in (self.model_extra or {}).items() if name not in type(self).model_fields}


class Condition(Recorded):
    type: Annotated[str, Field(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    message: Annotated[str, Field(max_length=CONDITION_LIMIT)] = ""
    last_transition_time: str
    observed_generation: int | None = None


Sketch = Annotated[str, Field(pattern=r"^([0-9a-f]{16})*$", max_length=1024)]
SPLITS_LIMIT = 32
SplitDigests = Annotated[dict[ShortText, Digest], Field(max_length=SPLITS_LIMIT)]
"""Digests of prepared data, by `<stage>/<split>`."""
Link = Annotated[str, Field(max_length=1024)]
Warnings = Annotated[list[Annotated[str, Field(max_length=WARNING_LIMIT)]], Field(max_length=WARNINGS_LIMIT)]


class Progress(Recorded):
    """Where a step is."""

    step: int = 0
    """Optimizer steps done."""
    kept: int = 0
    """Of a step that takes no training steps: bytes that it has fetched, which the next attempt begins with."""
    total: int = 0
    epoch: float = 0.0
    tokens: int = 0
    """Trained tokens so far."""
    loss: float | None = None
    """Mean negative log-likelihood of a target token, in nats, over the last logged steps."""
    validation_loss: float | None = None
    margin: float | None = None
    """Of preferences, in the last step: by how much the chosen answer's reward was above the other's."""
    accuracy: float | None = None
    """Of preferences, in the last step: share of pairs of which the chosen answer had the higher reward."""
    validation_accuracy: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    """Model FLOPs utilisation: operations that the model needs over those that the devices are stated to do meanwhile,
    over the last steps. Left out where that is not known."""
    peak_memory_bytes: int | None = None
    """The most that the first process has held: allocated on its GPU, or its own memory where it trains on a CPU."""
    time_shares: Annotated[dict[str, float], Field(max_length=8)] | None = None
    """What the time of the last steps was spent on, as shares of 1: compute, data, communication, validation and
    checkpoint."""
    eta_seconds: float | None = None
    message: str | None = Field(default=None, max_length=1024)
    """What is going on when it is not a training step: tokenizing, loading, scoring."""
    warning: str | None = Field(default=None, max_length=1024)
    """What is wrong with the step although it goes on: a checkpoint that could not be written."""
    warnings: Warnings | None = None
    """What the step has found that whoever wrote the run should know: a gate that no model can pass, a judge that does
    not answer. It stays; the log of the step has all of it."""
    links: Annotated[dict[str, Link], Field(max_length=8)] | None = None
    """Where people see what the step has told others, by tracker; of a push, by hub."""


class StepStatus(Recorded):
    """The record of one step: prepare, a training stage, export, evaluate or publish."""

    name: str
    state: StepState
    attempt: int = 0
    """Number of the newest attempt; attempts count from 1."""
    job: ShortText | None = None
    """uid of the newest attempt's Job, as its creation returned it: no other Job speaks for the attempt. None locally,
    and where a release recorded the attempt that knew no such field."""
    nodes: int | None = None
    """Pods of the newest attempt of a stage; compute may be edited between two attempts. None of a step that is one
    process, and where an earlier release recorded it."""
    processes_per_node: int | None = None
    """Processes of each of these pods."""
    failures: int = 0
    """Attempts that were counted against `retries`."""
    stalls: int = 0
    """Interruptions in a row that made no progress; the third one of a training stage counts as a failure. Other steps
    begin anew for the most part: of those the tenth one counts, where they have gone on for an hour."""
    stalled_since: str | None = None
    """When the first of these ended, of a step that takes no training steps."""
    suspended_attempt: int | None = None
    """The newest attempt that a suspension has ended, which may take its grace period; it is no interruption."""
    gave_way: int = 0
    """Attempts in a row that gave the places back which some of their pods held while others found none."""
    yielded_attempt: int | None = None
    """The newest one of these; it is no interruption."""
    resumed_step: int = 0
    """Training step at which the attempt before the newest one ended, or the bytes that it kept; progress is what goes
    beyond it."""
    started_at: str | None = None
    """When the first attempt started."""
    finished_at: str | None = None
    """When the newest attempt ended."""
    progress: Progress | None = None
    metrics: Annotated[dict[str, float], Field(max_length=METRICS_LIMIT)] = Field(default_factory=dict)
    message: Text | None = None
    subject: ShortText | None = None
    """Of publish, a digest of what its attempts are about: the verdict, and where it is told. Another one begins
    anew."""


class AskedStatus(AskedFigures, Recorded):
    """What a gate asked, in figures: an endpoint holds that against its requiredGates."""


class MetricStatus(Recorded):
    name: str
    source: Annotated[str, Field(max_length=63)] | None = None
    """The source whose rows alone counted; None for all."""
    slice: Annotated[str, Field(max_length=63)] | None = None
    """The slice whose rows alone counted; None for all."""
    task: Annotated[str, Field(max_length=63)] | None = None
    """The task of lm-evaluation-harness that it is of; None for none."""
    value: float | None = None
    """None when it was not computed or is not finite; `reason` says why."""
    threshold: str
    """The gate as a person reads it: `<= 20`, `>= 20`, `<= live + 0.02`, `<= base + 0.02`."""
    verdict: Verdict
    reason: Text | None = None
    difference: float | None = None
    """How much worse than the live version or the base it is, of a gate on a regression."""
    lower: float | None = None
    """Bound of the value, or of the difference where there is one, with the gate's confidence; None where it has no
    bounds."""
    upper: float | None = None
    confidence: float | None = None
    """Of each bound by itself."""
    clusters: int | None = None
    """Documents, conversations or prompts that the figure rests on; those of one `cluster` of their rows are one."""
    data: Digest | None = None
    """Of the rows that it counts, with all that makes them easy or hard: `data` of a required gate asks for exactly
    that. None where an earlier release prepared the data."""
    asked: AskedStatus | None = None
    """None of what an earlier release judged."""

    @property
    def title(self) -> str:
        """The metric with the rows that counted, as a person reads it."""
        return titled(self.name, self.source, self.slice, self.task)


class JudgeStatus(Recorded):
    """How far the judge model of an evaluation agreed with itself, over all prompts that it was asked about."""

    orders: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the pairs that came out alike in both orders. None where nothing was compared."""
    repeats: Annotated[float, Field(ge=0, le=1)] | None = None
    """How near the repeats of a question were to each other; of several metrics the least. None without repeats."""
    silent: bool | None = None
    """True where every gate on its word that has no figure lacks it since its server was there for not one question, or
    since the model that it compares with could not be measured. None where no gate lacks one, or what the model said
    may be why: a question that is refused, a reply that cannot be used, a contradiction, marks that are all alike."""


class EvaluationStatus(Recorded):
    number: int
    """The folder `evaluation/<n>/`; a new judgement is a new number."""
    verdict: Verdict
    metrics: Annotated[list[MetricStatus], Field(max_length=64)] = Field(default_factory=list[MetricStatus])
    scored_tokens: int = 0
    data_digest: str | None = None
    artifact_digest: Digest | None = None
    """The artifact that was judged; no other may go live on this verdict."""
    baseline_digest: Digest | None = None
    """The live version that it was compared with."""
    baseline_overlap: int = 0
    """Held-out documents that the live version has learned from, as far as that is known."""
    baseline_note: Text | None = None
    """What is known of that, and what is not."""
    base_digest: Digest | None = None
    """The model that the run started from, where a gate compared with that."""
    recall_overlap: int = 0
    """Prompts that stand in the training data too, as their `recall: true` says."""
    parity_digest: Digest | None = None
    """Digest of `evaluation/<n>/parity.json`, by which a server proves that it serves the model that was judged. None
    where there can be no such record, or a release judged it that made none."""
    judge: JudgeStatus | None = None
    """Of the judge model. None where none was asked, and where an earlier release did."""
    reason: Text | None = None
    says_nothing: bool | None = None
    """True of an inconclusive one that says nothing of the model: the step failed, or each gate that is inconclusive is
    so since the judge's server was not there, or the model that it compares with could not be measured. It takes no
    earlier pass of the model back. None of any other, and of one that follows, in the same run, one which said
    something of the model and was no pass: that stays said, and takes a pass of another run back too that came in
    between."""
    reevaluation: Text | None = None
    """The value of the annotation slipway.dev/reevaluate that asked for it."""
    judgements: Annotated[int, Field(ge=0)] = 0
    """How often models of this run were measured on its held-out data, this evaluation included. An evaluation that
    crashed told nobody anything, and does not count."""

    @property
    def times_judged(self) -> int:
        """The same, of an evaluation too that a release recorded which did not count: it is known to be one where it
        names the data."""
        return max(self.judgements, 1 if self.data_digest is not None else 0)


class ArtifactStatus(Recorded):
    uri: str
    digest: Digest


class RunEndpointStatus(Recorded):
    name: str
    url: str | None = None
    version: int | None = None
    retry: Text | None = None
    """The value of the run's annotation slipway.dev/retry with which the endpoint took the model up."""


class RunStatus(Recorded):
    observed_generation: int | None = None
    phase: Phase = Phase.PENDING
    conditions: Annotated[list[Condition], Field(max_length=32)] = Field(default_factory=list[Condition])
    plan_digest: Digest | None = None
    train_image: Annotated[str, Field(max_length=1024)] | None = None
    """Image of all steps, pinned when the run was planned: the plan's digest leaves it out, and others can write its
    record. None locally, and where a release planned the run that knew no such field."""
    folder: Annotated[str, Field(max_length=128)] | None = None
    """Folder of the run in its claim, pinned when it was planned: an earlier run's where this one goes on in that. None
    where a release planned the run that knew no such field: its own."""
    held_out_digest: Digest | None = None
    """Digest of the held-out data as prepare copied it: evaluate is told it, and a judgement upon other data counts for
    nothing."""
    held_out_sketch: Sketch | None = None
    """The smallest hashes of its documents and prompts, by which judgements tell how many of these they share."""
    gate_data: Annotated[list[Digest], Field(max_length=32)] = Field(default_factory=list[Digest])
    """One a gate, in the plan's order, of the part of it that the gate counts. Empty where an earlier release prepared
    it."""
    training_data: SplitDigests | None = None
    """Digest of what each stage learns from and is validated on, as prepare made it. None where a release prepared it
    that told none; of very many stages that of what they learn from alone."""
    stages: Annotated[list[StepStatus], Field(max_length=32)] = Field(default_factory=list[StepStatus])
    evaluation: EvaluationStatus | None = None
    artifact: ArtifactStatus | None = None
    endpoint: RunEndpointStatus | None = None
    warnings: int | None = None
    """How many warnings its steps have, which are in their progress. None where they have none."""
    retry: Text | None = None
    """The value of the annotation slipway.dev/retry that was last acted on."""

    def step(self, name: str) -> StepStatus | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    def with_jobs(self, uids: Mapping[str, str]) -> RunStatus:
        """Returns the status with the uids of the Jobs of its newest attempts, by step."""
        stages = [
            stage.model_copy(update={"job": uids[stage.name]}) if stage.name in uids else stage for stage in self.stages
        ]
        return self.model_copy(update={"stages": stages})


class EndpointPhase(StrEnum):
    PENDING = "Pending"
    ROLLING_OUT = "RollingOut"
    SERVING = "Serving"
    DEGRADED = "Degraded"
    """The live version does not answer."""
    FAILED = "Failed"
    """No version is live and the candidate failed."""
    STOPPED = "Stopped"
    """The live version does not answer because somebody stopped it: spec.replicas is 0, or no daemon runs locally."""


class ParityStatus(Recorded):
    """The record by which a version proves that it is the model that was judged."""

    uri: Annotated[str, Field(max_length=2048)]
    digest: Digest


class ApprovalStatus(Recorded):
    """Who let a model through beside the gates."""

    user: Annotated[str, Field(max_length=1024)]
    """As the API server knows them."""
    evaluation: int
    """Number of the evaluation that they approved; 0 where none was known."""
    run: str | None = None
    """The run whose evaluation it was. None where none was known, and where a release recorded it that knew no such
    field."""
    run_uid: ShortText | None = None
    """The uid of that run: another one may have its name, and number its evaluations alike."""
    at: str
    """When the endpoint took the approval up."""


class AwaitingStatus(Recorded):
    """What waits for an approval: an approval of anything else counts for nothing."""

    digest: Digest
    run: str | None = None
    """The run that judged it."""
    run_uid: ShortText | None = None
    """The uid of that run, which an approval has to name; None where no run is known."""
    evaluation: int = 0
    """Number of its evaluation there; 0 where none is known."""
    remote_code: bool | None = None
    """Whether the model's own code ran where it was judged (model.trustRemoteCode): it may have written its figures.
    None where an operator of a release wrote it that recorded no such field; the condition AwaitingApproval says it."""


class VersionStatus(Recorded):
    version: int
    uri: str
    digest: Digest
    revision: str = ""
    """Hash of the digest and of every setting that makes a version."""
    run: str | None = None
    credentials: ShortText | None = None
    """The Secret that it is fetched with."""
    accept_unjudged: bool = False
    """Whether the spec accepted it without a verdict; a rollback to it needs none either."""
    signed_by: ShortText | None = None
    """The key that signed the verdict by which it started. None of one that was accepted without a verdict, and of one
    that a release started which signed none."""
    parity: ParityStatus | None = None
    """What its server compares itself with at every start. None where nobody can prove anything of it, and where a
    release made it that knew no such field."""
    approval: ApprovalStatus | None = None
    """Whose approval it started by, where its endpoint asked for one; a rollback to its model needs no other."""
    state: Literal["Starting", "Live", "Standby", "Failed", "Retired", "Dropped"] = "Starting"
    """Standby: was live until a moment ago and still runs, to come back when its successor fails in probation.
    Retired: was live. Dropped: was given up before it was live."""
    since: str
    """When it came into this state."""
    message: Text | None = None


class HeldOutData(Recorded):
    """Held-out data upon which models for an endpoint were judged."""

    sketch: Sketch
    """The smallest hashes of its documents and prompts."""
    judgements: Annotated[int, Field(ge=0)] = 0
    since: str
    """When the newest judgement upon it was."""


class CountedRun(Recorded):
    """A run whose judgements are counted, so that none is counted twice."""

    uid: ShortText
    judgements: Annotated[int, Field(ge=0)]
    since: str
    """When the newest of these was."""


class HeldOutStatus(Recorded):
    """How worn the held-out data is upon which models for an endpoint are judged."""

    judgements: Annotated[int, Field(ge=0)] = 0
    """Judgements upon data that shares documents with that of the newest one, which is one of them."""
    data: Annotated[list[HeldOutData], Field(max_length=8)] = Field(default_factory=list[HeldOutData])
    """What was judged upon, the newest first."""
    counted: Annotated[list[CountedRun], Field(max_length=64)] = Field(default_factory=list[CountedRun])
    """Whose judgements those are, the newest first, whether the run is still there or not."""


class EndpointStatus(Recorded):
    observed_generation: int | None = None
    phase: EndpointPhase = EndpointPhase.PENDING
    conditions: Annotated[list[Condition], Field(max_length=32)] = Field(default_factory=list[Condition])
    live: VersionStatus | None = None
    candidate: VersionStatus | None = None
    history: Annotated[list[VersionStatus], Field(max_length=32)] = Field(default_factory=list[VersionStatus])
    """Versions that were live, failed or were dropped, newest first."""
    held_out: HeldOutStatus | None = None
    """How often held-out data was used to judge models for this endpoint. None where no judgement is known."""
    passed: Digest | None = None
    """The model of the spec, where it passed: the run that says so may go before the model is served."""
    awaiting_approval: AwaitingStatus | None = None
    """The model that starts once somebody has approved it."""
    url: str | None = None
    retry: Text | None = None
    """The value of the annotation slipway.dev/retry that was last acted on."""
