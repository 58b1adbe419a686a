"""The resource TrainingRun: from data to a judged model behind an endpoint."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from slipway_core.api import (
    Api,
    Duration,
    Name,
    Quantity,
    Rule,
    ShortText,
    Text,
    Uri,
)
from slipway_core.model_endpoint import EndpointTemplate
from slipway_core.status import RunStatus

STEP_NAMES = ("prepare", "export", "evaluate")
"""Names of the steps that are not training stages; a stage cannot be called like one."""

MetricName = Literal[
    "perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity",
    "recall_count", "recall_rate", "distinct_1", "distinct_2", "repetition_rate", "empty_rate",
]  # fmt: skip


class TokenizerTraining(Api):
    vocab_size: int = Field(default=4096, ge=300, le=262144)
    """Entries of the byte-level BPE vocabulary, special tokens included."""


class Tokenizer(Api):
    """Where a new model has its tokenizer from."""

    rules: ClassVar = (
        Rule(
            "has(self.train) != has(self.from)",
            "set exactly one of train and from: train makes a new tokenizer from the training data, "
            "from takes one that exists",
            lambda self: (self.train is None) != (self.from_ is None),
        ),
    )

    train: TokenizerTraining | None = None
    """Train a byte-level BPE tokenizer on the training data of all stages."""
    from_: Uri | None = Field(default=None, alias="from")
    """A folder or hub repository that holds `tokenizer.json`."""


class Scratch(Api):
    """A new model with random weights."""

    rules: ClassVar = (
        Rule(
            "(has(self.hiddenSize) ? self.hiddenSize : 256) % (has(self.heads) ? self.heads : 4) == 0",
            "hiddenSize must be a multiple of heads",
            lambda self: self.hidden_size % self.heads == 0,
            "hiddenSize",
            lambda self: f"hiddenSize {self.hidden_size}, heads {self.heads}",
        ),
        Rule(
            "!has(self.kvHeads) || (has(self.heads) ? self.heads : 4) % self.kvHeads == 0",
            "heads must be a multiple of kvHeads",
            lambda self: self.kv_heads is None or self.heads % self.kv_heads == 0,
            "kvHeads",
            lambda self: f"heads {self.heads}, kvHeads {self.kv_heads}",
        ),
    )

    architecture: Literal["llama", "qwen2", "mistral"] = "llama"
    """Model family of transformers."""
    layers: int = Field(default=4, ge=1, le=256)
    """Transformer blocks."""
    hidden_size: int = Field(default=256, ge=16, le=32768)
    """Width of the residual stream."""
    heads: int = Field(default=4, ge=1, le=512)
    """Attention heads. hiddenSize / heads is the head size; vLLM on a CPU serves 32, 64, 80, 96, 112, 128, 192
    and 256."""
    kv_heads: int | None = Field(default=None, ge=1, le=512)
    """Key and value heads of grouped-query attention; as many as heads when left out."""
    intermediate_size: int | None = Field(default=None, ge=16, le=131072)
    """Width of the feed-forward block; 8/3 of hiddenSize, rounded up to a multiple of 32, when left out."""
    max_length: int = Field(default=1024, ge=16, le=1048576)
    """Longest sequence in tokens that the model takes (max_position_embeddings)."""
    tie_embeddings: bool = True
    """Use the input embedding as the output layer too."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """Base of the rotary position embedding."""
    tokenizer: Tokenizer


class Model(Api):
    """Where the first stage starts."""

    rules: ClassVar = (
        Rule(
            "has(self.from) != has(self.scratch)",
            "set exactly one of from and scratch: from takes a model that exists, scratch makes a new one",
            lambda self: (self.from_ is None) != (self.scratch is None),
        ),
    )

    from_: Uri | None = Field(default=None, alias="from")
    """A base model in the format of Hugging Face: a folder, another run, or a repository of the hub or a folder of an
    object store, which are fetched once, into the workspace."""
    scratch: Scratch | None = None
    """A new model with random weights."""
    chat_template: Literal["Auto", "ChatML", "Plain", "PlainChinese"] = "Auto"
    """Auto keeps the model's own template and gives ChatML to a model that has none. Plain writes `User:` and
    `Assistant:`, PlainChinese 系统：, 用户： and 助手：."""
    credentials: ShortText | None = None
    """Secret with the key `token` (hf), AWS variables (s3) or GOOGLE_SERVICE_ACCOUNT_KEY (gs). Locally, the
    environment is used."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such a model is refused."""


class DataSource(Api):
    uri: Uri
    """A file, folder or glob of .jsonl, .jsonl.gz, .jsonl.zst or .parquet."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often an epoch sees each document: 2 is twice, 0.5 is every other one (chosen by the seed)."""
    credentials: ShortText | None = None
    """Secret for a private source, with the keys that those of a model have. Locally, the environment is used."""


class Validation(Api):
    rules: ClassVar = (
        Rule(
            "!(has(self.fraction) && has(self.data))",
            "set at most one of fraction and data",
            lambda self: self.fraction is None or self.data is None,
        ),
    )

    fraction: float | None = Field(default=None, ge=0, lt=1)
    """Share of the training documents that is set aside, chosen by the seed."""
    data: Annotated[list[DataSource], Field(min_length=1, max_length=64)] | None = None
    """Documents of their own instead."""
    every_steps: int = Field(default=50, ge=1)
    """Optimizer steps between two measurements of the validation loss."""


class StageData(Api):
    """What the stage learns, and what it is measured on meanwhile."""

    train: Annotated[list[DataSource], Field(min_length=1, max_length=64)]
    """Training data. Rows are {"text": …} for CausalLM and {"conversations": [{"role", "content"}, …]} for Chat."""
    validation: Validation | None = None
    """What the validation loss is measured on; left out, none is measured."""


class EarlyStop(Api):
    """Ends a stage that no longer gets better."""

    patience: int = Field(default=3, ge=1, le=1000)
    """Measurements without a lower validation loss after which the stage ends."""


class Batch(Api):
    """What one optimizer step sees, over all processes."""

    rules: ClassVar = (
        Rule(
            "!(has(self.tokens) && has(self.sequences))",
            "set at most one of tokens and sequences",
            lambda self: self.tokens is None or self.sequences is None,
        ),
    )

    tokens: int | None = Field(default=None, ge=1, le=1 << 30)
    """Tokens of an optimizer step; a multiple of maxLength is made of it. 16384 when both are left out."""
    sequences: int | None = Field(default=None, ge=1, le=1 << 24)
    """Packed rows of maxLength tokens of an optimizer step."""
    micro_sequences: int | None = Field(default=None, ge=1, le=1 << 16)
    """Rows that one process puts through the model at once; chosen from the memory when left out, halved when it
    runs out. It never changes what is learned, only how fast."""


class Optimizer(Api):
    """How the weights follow the gradients."""

    name: Literal["AdamW"] = "AdamW"
    learning_rate: float = Field(default=2e-4, gt=0, le=10)
    """Peak learning rate."""
    schedule: Literal["Cosine", "Linear", "Constant"] = "Cosine"
    """How the rate falls after the warm-up."""
    min_learning_rate_ratio: float = Field(default=0.0, ge=0, le=1)
    """Where the schedule ends, as a share of learningRate."""
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    """Share of all steps in which the rate rises from 0."""
    weight_decay: float = Field(default=0.1, ge=0, le=10)
    """Decoupled decay of matrices; norms, biases and embeddings have none."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them alone."""


class Memory(Api):
    """How a model that is large for its devices fits into them."""

    rules: ClassVar = (
        Rule(
            "!has(self.zeroStage) || self.zeroStage == 'Auto' || self.zeroStage in [0, 1, 2, 3]",
            "zeroStage must be Auto, 0, 1, 2 or 3",
            lambda self: self.zero_stage == "Auto" or self.zero_stage in (0, 1, 2, 3),
            "zeroStage",
        ),
        Rule(
            "!has(self.offload) || self.offload == 'None'",
            "offload is not built yet: only None is accepted",
            lambda self: self.offload == "None",
            "offload",
        ),
    )

    gradient_checkpointing: Literal["Auto", "Enabled", "Disabled"] = "Auto"
    """Compute activations twice instead of keeping them. Auto: only when they would not fit."""
    zero_stage: int | str = Field(default="Auto", json_schema_extra={"x-kubernetes-int-or-string": True})
    """What DeepSpeed shards over the processes: Auto, 0 (nothing), 1 (optimizer), 2 (gradients), 3 (weights)."""
    offload: Literal["None", "Optimizer", "All"] = "None"
    """What is kept in the host's memory."""


class Adapter(Api):
    """Trains a few new weights beside the model instead of all of its own."""

    rules: ClassVar = (
        Rule(
            "!has(self.method) || self.method in ['None', 'LoRA', 'DoRA']",
            "this adapter method is not built yet: use LoRA, DoRA or None",
            lambda self: self.method in ("None", "LoRA", "DoRA"),
            "method",
        ),
    )

    method: Literal["None", "LoRA", "DoRA", "QLoRA", "Prefix", "PromptTuning", "PTuning"] = "LoRA"
    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=16.0, gt=0, le=65536)
    """The adapter is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str = Field(default="Auto", max_length=1024, pattern=r"^[A-Za-z0-9_.]+(,[A-Za-z0-9_.]+)*$")
    """Auto (every linear layer but the output), or names of modules separated by commas: q_proj,v_proj."""


class Stage(Api):
    """One training; each starts from the model that the one before it made."""

    rules: ClassVar = (
        Rule(
            "[has(self.epochs), has(self.steps), has(self.tokens)].filter(x, x).size() <= 1",
            "set at most one of epochs, steps and tokens",
            lambda self: sum(x is not None for x in (self.epochs, self.steps, self.tokens)) <= 1,
        ),
        Rule(
            "!(self.name in ['prepare', 'export', 'evaluate'])",
            "prepare, export and evaluate are names of Slipway's own steps; call the stage something else",
            lambda self: self.name not in STEP_NAMES,
            "name",
        ),
        Rule(
            "!(has(self.earlyStop) || (has(self.select) && self.select == 'Best')) || has(self.data.validation)",
            "select: Best and earlyStop need data.validation",
            lambda self: not (self.early_stop or self.select == "Best") or self.data.validation is not None,
            "select",
        ),
    )

    name: Name
    """Names the stage in status, logs and the workspace; the same name is not given twice."""
    objective: Literal["CausalLM", "Chat"] = "CausalLM"
    """CausalLM learns every token of {"text": …} rows, Chat the assistant's tokens of {"conversations": …} rows."""
    data: StageData
    seed: int = Field(default=0, ge=0, lt=1 << 31)
    """Makes the order of the data, the dropout and the new weights."""
    select: Literal["Last", "Best"] = "Last"
    """Which weights the stage ends with: the last, or those with the lowest validation loss."""
    early_stop: EarlyStop | None = None
    max_length: int = Field(default=512, ge=8, le=1048576)
    """Tokens of a packed row. Longer CausalLM documents are split, longer conversations end at the last turn that
    fits; both are counted and reported."""
    epochs: float | None = Field(default=None, gt=0, le=100000)
    """Passes over the data; 1 when epochs, steps and tokens are left out."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps instead."""
    tokens: int | None = Field(default=None, ge=1)
    """Trained tokens instead."""
    batch: Batch = Batch()
    optimizer: Optimizer = Optimizer()
    precision: Literal["Auto", "BF16", "FP16", "FP32"] = "Auto"
    """Auto: BF16 on a GPU that has it, FP16 on an older one, FP32 on a CPU."""
    memory: Memory = Memory()
    adapter: Adapter | None = None


class Resources(Api):
    """CPU and memory of a pod."""

    requests: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What a node must have free: {cpu: "4", memory: 16Gi}."""
    limits: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What a pod may use at most."""


class Toleration(Api):
    """A taint of nodes on which the pods may run."""

    key: ShortText | None = None
    """Key of the taint; every taint when left out with operator Exists."""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    """Value of the taint, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; every effect when left out."""
    toleration_seconds: int | None = None
    """How long a pod stays on a node that gets the taint; for ever when left out."""


class Compute(Api):
    """Where the training stages run."""

    nodes: int = Field(default=1, ge=1, le=1024)
    """Pods; locally, nodes × processesPerNode processes."""
    processes_per_node: int = Field(default=1, ge=1, le=64)
    """Processes of a pod, one for each accelerator."""
    accelerator: ShortText | None = None
    """Extended resource such as nvidia.com/gpu. Left out: what torch finds, or the chart's default."""
    resources: Resources | None = None
    """Of each pod; the chart's default when left out."""
    queue: Name | None = None
    """Kueue LocalQueue."""
    node_selector: Annotated[dict[ShortText, Text], Field(max_length=32)] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(default_factory=list[Toleration])
    """Taints on which the pods may run."""
    priority_class_name: ShortText | None = None
    """PriorityClass of the pods."""


class Checkpoints(Api):
    """When the state of a training is written, and how much of it is kept."""

    every_steps: int = Field(default=200, ge=1)
    """Optimizer steps between two checkpoints."""
    keep: int = Field(default=3, ge=1, le=1000)
    """Newest complete checkpoints that are kept; the best one is kept beside them while it is needed."""


class PromptSource(Api):
    """Rows are {"prompt": …} or {"conversations": …}, with {"answer": …} when the answer is to be compared."""

    uri: Uri
    """A file, folder or glob of .jsonl, .jsonl.gz, .jsonl.zst or .parquet."""
    recall: bool = False
    """These prompts ask for something that the training data holds, so they may overlap with it."""
    credentials: ShortText | None = None
    """Secret for a private source, with the keys that those of a model have. Locally, the environment is used."""


class Gate(Api):
    """One condition that the model has to meet."""

    rules: ClassVar = (
        Rule(
            "[has(self.max), has(self.min), has(self.maxRegression)].filter(x, x).size() == 1",
            "set exactly one of max, min and maxRegression",
            lambda self: sum(x is not None for x in (self.max, self.min, self.max_regression)) == 1,
        ),
    )

    metric: MetricName
    """What is measured: text metrics on data, recall and generated text on prompts."""
    max: float | None = None
    """The metric must not be above it."""
    min: float | None = None
    """The metric must not be below it."""
    max_regression: float | None = Field(default=None, ge=0)
    """How much worse than the live version the model may be, in the metric's own unit and direction."""
    min_tokens: int = Field(default=1, ge=1)
    """Scored tokens without which the gate is inconclusive."""


_TEXT_METRICS = "['perplexity', 'bits_per_byte', 'word_perplexity', 'byte_perplexity']"


def _needs(self: Evaluation, kind: Literal["data", "recall", "prompts"]) -> bool:
    wanted = {
        "data": ("perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity"),
        "recall": ("recall_count", "recall_rate"),
        "prompts": ("distinct_1", "distinct_2", "repetition_rate", "empty_rate"),
    }[kind]
    return any(gate.metric in wanted for gate in self.gates)


class Evaluation(Api):
    """What the exported model is measured on, and the gates before traffic."""

    rules: ClassVar = (
        Rule(
            f"!(has(self.gates) && self.gates.exists(g, g.metric in {_TEXT_METRICS})) || "
            "(has(self.data) && self.data.size() > 0)",
            "a gate on perplexity or bits_per_byte needs evaluation.data: nothing else computes it",
            lambda self: not _needs(self, "data") or bool(self.data),
            "gates",
        ),
        Rule(
            "!(has(self.gates) && self.gates.exists(g, g.metric in ['recall_count', 'recall_rate'])) || "
            "(has(self.prompts) && self.prompts.exists(p, has(p.recall) && p.recall))",
            "a gate on recall_count or recall_rate needs evaluation.prompts with recall: true",
            lambda self: not _needs(self, "recall") or any(p.recall for p in self.prompts),
            "gates",
        ),
        Rule(
            "!(has(self.gates) && self.gates.exists(g, g.metric in "
            "['distinct_1', 'distinct_2', 'repetition_rate', 'empty_rate'])) || "
            "(has(self.prompts) && self.prompts.size() > 0)",
            "a gate on generated text needs evaluation.prompts: nothing else computes it",
            lambda self: not _needs(self, "prompts") or bool(self.prompts),
            "gates",
        ),
    )

    data: Annotated[list[DataSource], Field(max_length=64)] = Field(default_factory=list[DataSource])
    """Held-out text, {"text": …} rows, scored raw. Refused when it overlaps with the training data."""
    prompts: Annotated[list[PromptSource], Field(max_length=64)] = Field(default_factory=list[PromptSource])
    """Prompts that the model answers, greedily."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Longest answer to a prompt, in tokens."""
    gates: Annotated[list[Gate], Field(max_length=32)] = Field(default_factory=list[Gate])
    """All of them must pass."""
    on_inconclusive: Literal["Hold", "Reject"] = "Hold"
    """What becomes of a run whose gates could not be judged. Held ends by the annotation slipway.dev/reevaluate."""


class Export(Api):
    """How the trained model is written for serving."""

    rules: ClassVar = (
        Rule(
            "!has(self.mergeAdapter) || self.mergeAdapter",
            "serving an adapter that is not merged is not built yet: leave mergeAdapter at true",
            lambda self: self.merge_adapter,
            "mergeAdapter",
        ),
        Rule(
            "!has(self.quantization) || self.quantization == 'None'",
            "quantization is not built yet: only None is accepted",
            lambda self: self.quantization == "None",
            "quantization",
        ),
    )

    merge_adapter: bool = True
    """Fold the adapter into the weights."""
    quantization: Literal["None", "FP8", "INT8", "INT4"] = "None"


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
            "!has(self.serving) || (has(self.evaluation) && has(self.evaluation.gates) && "
            "self.evaluation.gates.exists(g, has(g.max) || has(g.min)))",
            "serving needs at least one gate with max or min: nothing goes live that was not judged",
            lambda self: (
                self.serving is None or any(g.max is not None or g.min is not None for g in self.evaluation.gates)
            ),
            "evaluation",
        ),
    )

    model: Model
    stages: Annotated[list[Stage], Field(min_length=1, max_length=16)]
    """Trainings in order."""
    compute: Compute = Compute()
    checkpoints: Checkpoints = Checkpoints()
    retries: int = Field(default=3, ge=0, le=100)
    """Failures that each step may have before the run fails; interruptions are not counted."""
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    serving: Serving | None = None
    """Where a passing model goes live; left out, the run ends with the judged artifact."""
    storage: Storage | None = None
    retention: Retention = Retention()
    suspend: bool = False
    """Checkpoint and stop; false goes on."""


class Metadata(Api):
    """The part of Kubernetes' metadata that Slipway reads; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow")

    name: Name
    namespace: Name | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    uid: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


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
