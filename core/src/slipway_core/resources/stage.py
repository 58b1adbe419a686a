"""A training stage: what it learns, how, and with what memory."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Name, Rule
from slipway_core.resources.data import StageData

FIXED_STEPS: tuple[str, ...] = ("prepare", "export", "evaluate", "publish")
"""Steps that a run has beside its training stages, the last one where something is to be published; a stage cannot be
called like one."""


TooLong = Literal["Auto", "Split", "Truncate", "Drop", "Refuse"]


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
    """Trains a few new weights beside the model instead of all of its own, and the rows of special tokens that the base
    never learned."""

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
    """Auto (every linear layer but the output), or names of linear layers separated by commas: q_proj,v_proj. Experts
    that are one tensor get no adapter."""


class Stage(Api):
    """One training; each starts from the model that the one before it made."""

    rules: ClassVar = (
        Rule(
            "[has(self.epochs), has(self.steps), has(self.tokens)].filter(x, x).size() <= 1",
            "set at most one of epochs, steps and tokens",
            lambda self: sum(x is not None for x in (self.epochs, self.steps, self.tokens)) <= 1,
        ),
        Rule(
            "!has(self.tooLong) || self.tooLong != 'Split' || !has(self.objective) || self.objective != 'Chat'",
            "a conversation cannot be split: use Auto, Truncate, Drop or Refuse",
            lambda self: self.too_long != "Split" or self.objective != "Chat",
            "tooLong",
        ),
        Rule(
            "!has(self.learn) || self.learn == 'AllAnswers' || (has(self.objective) && self.objective == 'Chat')",
            "only conversations have answers: LastAnswer needs objective: Chat",
            lambda self: self.learn == "AllAnswers" or self.objective == "Chat",
            "learn",
        ),
        Rule(
            "!(self.name in ['prepare', 'export', 'evaluate', 'publish'])",
            "prepare, export, evaluate and publish are names of Slipway's own steps; call the stage something else",
            lambda self: self.name not in FIXED_STEPS,
            "name",
        ),
        Rule(
            "!(has(self.earlyStop) || (has(self.select) && self.select == 'Best')) || has(self.data.validation)",
            "select: Best and earlyStop need data.validation",
            lambda self: not (self.early_stop or self.select == "Best") or self.data.validation is not None,
            "select",
        ),
        Rule(
            "!(has(self.data.temperature) || self.data.train.exists(s, has(s.proportion))) || has(self.steps) || "
            "has(self.tokens)",
            "proportion and temperature are shares of what the stage sees: set its steps or tokens",
            lambda self: not self.data.mixed or self.steps is not None or self.tokens is not None,
            "data",
        ),
    )

    name: Name
    """Names the stage in status, logs and the workspace; the same name is not given twice."""
    objective: Literal["CausalLM", "Chat"] = "CausalLM"
    """CausalLM learns every token of a text, Chat the assistant's tokens of a conversation."""
    learn: Literal["AllAnswers", "LastAnswer"] = "AllAnswers"
    """Which answers of a conversation are learned; what a row itself takes out, by weight or train, never is."""
    too_long: TooLong = "Auto"
    """What becomes of a row longer than maxLength. Auto splits texts, and ends conversations with the last answer that
    fits. Truncate ends texts at maxLength, Drop leaves the row out, Refuse ends the run. All of it is counted."""
    data: StageData
    seed: int = Field(default=0, ge=0, lt=1 << 31)
    """Makes the order of the data, the dropout and the new weights."""
    select: Literal["Last", "Best"] = "Last"
    """Which weights the stage ends with: the last, or those with the lowest validation loss of which there is a
    checkpoint."""
    early_stop: EarlyStop | None = None
    max_length: int = Field(default=512, ge=8, le=1048576)
    """Tokens of a packed row. tooLong says what becomes of what is longer."""
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
