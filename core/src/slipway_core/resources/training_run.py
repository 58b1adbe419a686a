"""The resource TrainingRun: from data to a judged model behind an endpoint."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Duration, Name, Rule, ShortText, Uri, seconds
from slipway_core.resources.compute import Compute
from slipway_core.resources.evaluation import Evaluation
from slipway_core.resources.gate_metrics import WIN_RATE
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.model import Model
from slipway_core.resources.model_endpoint import EndpointTemplate
from slipway_core.resources.stage import Stage
from slipway_core.resources.status import RunStatus
from slipway_core.resources.tracking import Tracking

DEFAULT_INTERVAL = "10m"
"""Between two checkpoints, where a run says nothing."""


class Checkpoints(Api):
    """When the state of a training is written, and how much of it is kept."""

    rules: ClassVar = (
        Rule(
            "!(has(self.interval) && has(self.everySteps))",
            "set at most one of interval and everySteps",
            lambda self: self.interval is None or self.every_steps is None,
        ),
        Rule(
            "!has(self.interval) || self.interval.matches('[1-9]')",
            "interval must be longer than nothing, such as 10m",
            lambda self: self.interval is None or seconds(self.interval) > 0,
            "interval",
            lambda self: str(self.interval),
        ),
    )

    interval: Duration | None = None
    """Time between two checkpoints; 10m when both are left out. The training goes on while one is written."""
    every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between two checkpoints instead."""
    keep: int = Field(default=3, ge=1, le=1000)
    """Newest complete checkpoints that are kept; the best one is kept beside them while it is needed."""

    @property
    def every_seconds(self) -> int | None:
        """Seconds between two checkpoints; None where steps say it."""
        return None if self.every_steps is not None else seconds(self.interval or DEFAULT_INTERVAL)


PUSH_PATTERN = r"^hf://[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*$"


class Push(Api):
    """A repository of the hub that gets the model after it passed, and never before."""

    uri: Annotated[str, Field(pattern=PUSH_PATTERN, max_length=256)]
    """The repository: hf://org/name. It is made when it does not exist."""
    private: bool = True
    """Whether nobody else may see it. A repository that everybody sees is refused then."""
    credentials: ShortText
    """Secret with the key token, which may write there. Locally, HF_TOKEN of the environment is used."""


class Export(Api):
    """How the trained model is written for serving."""

    rules: ClassVar = (
        Rule(
            "!has(self.gguf) || self.gguf == 'None' || !has(self.quantization) || self.quantization == 'None'",
            "gguf is written from weights that are not quantised: leave out gguf, or quantization (Q8_0 has 8 bits)",
            lambda self: self.gguf == "None" or self.quantization == "None",
            "gguf",
        ),
    )

    merge_adapter: bool = True
    """Fold the adapter into the weights. false writes the adapter of the last stage as peft has it, with where its
    base lies and the digest of that; a base that earlier stages made lies beside it. Virtual tokens are always written
    so."""
    quantization: Literal["None", "FP8", "INT8", "INT4"] = "None"
    """Rounds the linear layers to 8 or 4 bits; embedding and output layer stay as they are. It is the artifact: what is
    judged and served. INT8 and FP8 round what goes into a layer too, while it computes."""
    gguf: Literal["None", "F16", "Q8_0"] = "None"
    """Writes the model as one GGUF file too, with a Modelfile, for llama.cpp and Ollama: a download in the folder gguf
    of the run, which is neither judged nor served. F16 rounds weights to half precision, Q8_0 to 8 bits. Of llama,
    mistral and qwen2 models with a byte-level BPE."""
    push: Push | None = None
    """Where the model goes once it passed its gates."""


class Serving(Api):
    endpoint: Name
    """ModelEndpoint that a passing model is promoted to; made from template when it does not exist."""
    template: EndpointTemplate = EndpointTemplate()


class Storage(Api):
    """Where the workspace of the run lies; left out, the claim slipway-workspace of its namespace."""

    rules: ClassVar = (
        Rule(
            "has(self.claimName) != has(self.uri)",
            "set exactly one of claimName and uri",
            lambda self: (self.claim_name is None) != (self.uri is None),
        ),
        Rule(
            "!has(self.uri)",
            "storage.uri is not built yet: use claimName",
            lambda self: self.uri is None,
            "uri",
        ),
    )

    claim_name: ShortText | None = None
    """PersistentVolumeClaim of the namespace that holds the workspace."""
    uri: Uri | None = None
    """Object store that holds it instead."""


class Retention(Api):
    """What is kept of a run that is finished, and for how long."""

    ttl_after_finished: Duration | None = None
    """How long a finished run is kept; for ever when left out. An artifact that an endpoint names is kept."""
    keep_artifacts: int = Field(default=5, ge=1, le=1000)
    """Newest artifacts of an endpoint that are kept for a rollback."""


def _names(self: TrainingRunSpec) -> list[str]:
    return [stage.name for stage in self.stages]


def _too_long(self: TrainingRunSpec) -> list[str]:
    """Returns the stages whose rows are longer than what a new model takes."""
    scratch = self.model.scratch
    if scratch is None:
        return []
    return [f"{s.name} has maxLength {s.max_length}" for s in self.stages if s.max_length > scratch.max_length]


def _last_method(self: TrainingRunSpec) -> str:
    adapter = self.stages[-1].adapter if self.stages else None
    return adapter.method if adapter is not None else "None"


def _is_merged(self: TrainingRunSpec) -> bool:
    """Whether the artifact is one plain model."""
    return self.export.merge_adapter and not (self.stages and self.stages[-1].virtual_tokens)


def _has_a_purpose(self: TrainingRunSpec) -> bool:
    """Whether a run without stages does more than to copy its model."""
    return bool(self.evaluation.gates) or self.export.quantization != "None" or self.export.gguf != "None"


def _compares_with_base(self: TrainingRunSpec) -> bool:
    return self.evaluation.compares_with("Base")


def _is_judged(self: TrainingRunSpec) -> bool:
    return any(self.evaluation.is_absolute(gate) for gate in self.evaluation.gates)


_AGAINST_BASE: Final = (
    "has(self.evaluation) && (has(self.evaluation.gates) && "
    "self.evaluation.gates.exists(g, has(g.against) && g.against == 'Base') || "
    "has(self.evaluation.judge) && has(self.evaluation.judge.compare) && self.evaluation.judge.compare == 'Base')"
)
_JUDGED: Final = (
    "has(self.evaluation) && has(self.evaluation.gates) && "
    f"self.evaluation.gates.exists(g, (has(g.max) || has(g.min)) && (g.metric != '{WIN_RATE}' || "
    "has(self.evaluation.judge) && has(self.evaluation.judge.compare) && "
    "self.evaluation.judge.compare == 'Reference'))"
)
_BESIDE: Final = f"; {WIN_RATE} is such a gate with compare: Reference alone, for what it is beside may be as bad"
_NO_STAGES: Final = "size(self.stages) == 0"
_LAST: Final = "self.stages[size(self.stages) - 1]"
_LAST_METHOD: Final = (
    f"(!({_NO_STAGES}) && has({_LAST}.adapter) ? "
    f"(has({_LAST}.adapter.method) ? {_LAST}.adapter.method : 'LoRA') : 'None')"
)
_PROMPTS: Final = "['Prefix', 'PromptTuning', 'PTuning']"


class TrainingRunSpec(Api):
    rules: ClassVar = (
        Rule(
            "self.stages.all(s, self.stages.exists_one(t, t.name == s.name))",
            "two stages have the same name",
            lambda self: len({stage.name for stage in self.stages}) == len(self.stages),
            "stages",
            lambda self: ", ".join(sorted({s.name for s in self.stages if _names(self).count(s.name) > 1})),
        ),
        Rule(
            f"!({_NO_STAGES}) || has(self.model.from)",
            "stages: [] judges a model that exists: name it in model.from. A new one has learned nothing",
            lambda self: bool(self.stages) or self.model.from_ is not None,
            "model",
        ),
        Rule(
            f"!({_NO_STAGES}) || has(self.evaluation) && has(self.evaluation.gates) && "
            "self.evaluation.gates.size() > 0 || has(self.export) && "
            "(has(self.export.quantization) && self.export.quantization != 'None' || "
            "has(self.export.gguf) && self.export.gguf != 'None')",
            "stages: [] needs something to judge or to export: give evaluation.gates, export.quantization or "
            "export.gguf, or a stage that trains",
            lambda self: bool(self.stages) or _has_a_purpose(self),
            "stages",
        ),
        Rule(
            f"!({_NO_STAGES}) || !has(self.model.addTokens) || self.model.addTokens.size() == 0",
            "model.addTokens needs a stage: with stages: [] nothing would be learned of them",
            lambda self: bool(self.stages) or not self.model.add_tokens,
            "model",
            lambda self: ", ".join(map(repr, self.model.add_tokens or [])),
        ),
        Rule(
            f"!({_AGAINST_BASE}) || has(self.model.from)",
            "against: Base compares with the model of model.from, and a new one has none: leave it out to compare with "
            "the live version; so does compare: Base of a judge",
            lambda self: not _compares_with_base(self) or self.model.from_ is not None,
            "evaluation",
        ),
        Rule(
            f"!({_AGAINST_BASE}) || !({_NO_STAGES}) || has(self.export) && has(self.export.quantization) && "
            "self.export.quantization != 'None'",
            "against: Base compares a model with itself where neither a stage nor export.quantization changes it: "
            "leave it out; so does compare: Base of a judge",
            lambda self: not _compares_with_base(self) or bool(self.stages) or self.export.quantization != "None",
            "evaluation",
        ),
        Rule(
            "!has(self.model.scratch) || self.stages.all(s, (has(s.maxLength) ? s.maxLength : 512) <= "
            "(has(self.model.scratch.maxLength) ? self.model.scratch.maxLength : 1024))",
            "maxLength of a stage must not be above model.scratch.maxLength, the longest sequence that the model takes",
            lambda self: not _too_long(self),
            "stages",
            lambda self: f"{'; '.join(_too_long(self))}; the model takes {self.model.scratch.max_length}",
        ),
        Rule(
            "!has(self.model.scratch) || !has(self.serving) || !has(self.serving.template) || "
            "!has(self.serving.template.engine) || !has(self.serving.template.engine.maxModelLength) || "
            "self.serving.template.engine.maxModelLength <= "
            "(has(self.model.scratch.maxLength) ? self.model.scratch.maxLength : 1024)",
            "template.engine.maxModelLength must not be above model.scratch.maxLength, the longest sequence that the "
            "model takes",
            lambda self: (
                self.model.scratch is None
                or self.serving is None
                or (self.serving.template.engine.max_model_length or 0) <= self.model.scratch.max_length
            ),
            "serving",
            lambda self: (
                f"maxModelLength {self.serving.template.engine.max_model_length}; "
                f"the model takes {self.model.scratch.max_length}"
            ),
        ),
        Rule(
            f"self.stages.filter(s, has(s.adapter) && has(s.adapter.method) && s.adapter.method in {_PROMPTS}).size() "
            f"<= ({_LAST_METHOD} in {_PROMPTS} ? 1 : 0)",
            "a stage of virtual tokens must be the last: no stage can start from a model with virtual tokens before it",
            lambda self: not any(s.virtual_tokens for s in self.stages[:-1]),
            "stages",
            lambda self: ", ".join(
                f"{s.name} has {s.adapter.method}" for s in self.stages[:-1] if s.adapter and s.adapter.before_text
            ),
        ),
        Rule(
            "!has(self.export) || !has(self.export.mergeAdapter) || self.export.mergeAdapter || "
            f"{_LAST_METHOD} != 'None'",
            "export.mergeAdapter: false needs an adapter in the last stage: leave it at true",
            lambda self: self.export.merge_adapter or _last_method(self) != "None",
            "export",
        ),
        Rule(
            "!has(self.export) || !has(self.export.gguf) || self.export.gguf == 'None' || "
            f"(!has(self.export.mergeAdapter) || self.export.mergeAdapter) && !({_LAST_METHOD} in {_PROMPTS})",
            "export.gguf is one plain model: leave it out, or leave export.mergeAdapter at true and train LoRA, DoRA "
            "or QLoRA",
            lambda self: self.export.gguf == "None" or _is_merged(self),
            "export",
        ),
        Rule(
            "!has(self.export) || !has(self.export.quantization) || self.export.quantization == 'None' || "
            f"(!has(self.export.mergeAdapter) || self.export.mergeAdapter) && !({_LAST_METHOD} in {_PROMPTS})",
            "export.quantization is of one plain model: leave it out, or leave export.mergeAdapter at true and train "
            "LoRA, DoRA or QLoRA",
            lambda self: self.export.quantization == "None" or _is_merged(self),
            "export",
        ),
        Rule(
            "!has(self.serving) || "
            "(!has(self.export) || !has(self.export.mergeAdapter) || self.export.mergeAdapter) && "
            f"!({_LAST_METHOD} in {_PROMPTS})",
            "serving an adapter that is not merged is not built yet: leave serving out, or leave export.mergeAdapter "
            "at true and train LoRA, DoRA or QLoRA",
            lambda self: self.serving is None or _is_merged(self),
            "serving",
        ),
        Rule(
            f"!has(self.serving) || ({_JUDGED})",
            f"serving needs at least one gate with max or min: nothing goes live that was not judged{_BESIDE}",
            lambda self: self.serving is None or _is_judged(self),
            "evaluation",
        ),
        Rule(
            f"!has(self.export) || !has(self.export.push) || ({_JUDGED})",
            f"push needs at least one gate with max or min: nothing is pushed that was not judged{_BESIDE}",
            lambda self: self.export.push is None or _is_judged(self),
            "export",
        ),
    )

    model: Model
    stages: Annotated[list[Stage], Field(max_length=16)]
    """Trainings in order. With none, `[]`, the model of model.from is judged as it is, or written in another form."""
    compute: Compute = Compute()
    checkpoints: Checkpoints = Checkpoints()
    retries: int = Field(default=3, ge=0, le=100)
    """Failures that each step may have before the run fails; interruptions are not counted."""
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    serving: Serving | None = None
    """Where a passing model goes live; left out, the run ends with the judged artifact."""
    tracking: Tracking | None = None
    """Trackers that are sent the curves and the verdict. It may be edited at any time: it decides nothing of the
    model."""
    storage: Storage | None = None
    retention: Retention = Retention()
    suspend: bool = False
    """Checkpoint and stop; false goes on."""


class TrainingRun(Api):
    """From data to a live endpoint, with a quality gate in between."""

    api_version: Literal["slipway.dev/v1alpha1"] = "slipway.dev/v1alpha1"
    kind: Literal["TrainingRun"] = "TrainingRun"
    metadata: Metadata
    spec: TrainingRunSpec
    status: RunStatus | None = None

    @property
    def name(self) -> str:
        return self.metadata.name
