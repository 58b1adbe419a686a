"""A training stage: what it learns, how, and with what memory."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Name, Rule
from slipway_core.resources.data import StageData
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.preference import Preference

FIXED_STEPS: tuple[str, ...] = ("prepare", "export", "evaluate", "publish")
"""Steps that a run has beside its training stages, the last one where something is to be published; a stage cannot be
called like one."""


LayerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", min_length=1, max_length=253)]
"""A layer of a model, or the end of the names of several."""
PROMPT_METHODS: tuple[str, ...] = ("Prefix", "PromptTuning", "PTuning")
"""Adapters that stand in front of a text. They cannot be folded into the weights of a model."""
TARGETS_PATTERN = r"^[A-Za-z0-9_.]+(,[A-Za-z0-9_.]+)*$"
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
            "!has(self.offload) || self.offload != 'Optimizer' || !has(self.zeroStage) || self.zeroStage != 0",
            "ZeRO offloads the optimizer from stage 1 on: leave zeroStage out with offload, or set it to 1, 2 or 3",
            lambda self: self.offload != "Optimizer" or self.zero_stage != 0,
            "offload",
        ),
        Rule(
            "!has(self.offload) || self.offload != 'All' || !has(self.zeroStage) || self.zeroStage == 'Auto' || "
            "self.zeroStage == 3",
            "offload: All moves weights, which only zeroStage 3 holds in pieces: leave zeroStage out, set it to 3, or "
            "use offload: Optimizer",
            lambda self: self.offload != "All" or self.zero_stage in ("Auto", 3),
            "offload",
        ),
    )

    gradient_checkpointing: Literal["Auto", "Enabled", "Disabled"] = "Auto"
    """Compute activations twice instead of keeping them. Auto: only when they would not fit."""
    zero_stage: int | str = Field(default="Auto", json_schema_extra={"x-kubernetes-int-or-string": True})
    """What DeepSpeed shards over the processes: Auto, 0 (nothing), 1 (optimizer), 2 (gradients), 3 (weights)."""
    offload: Literal["None", "Optimizer", "All"] = "None"
    """What is kept in the host's memory. Optimizer: its moments and master weights, and the host takes the step
    (AdamW alone; ZeRO 1 at least). All: the weights too, which come to the device layer by layer (ZeRO 3)."""

    @property
    def divides_weights(self) -> bool:
        """Whether ZeRO 3 is asked for, by its number or by an offload that needs it."""
        return self.zero_stage == 3 or self.offload == "All"


class Adapter(Api):
    """Trains a few new weights beside the model instead of all of its own, and the rows of special tokens that the base
    never learned."""

    rules: ClassVar = (
        Rule(
            "!has(self.method) || !(self.method in ['Prefix', 'PromptTuning', 'PTuning']) || ("
            "(!has(self.rank) || self.rank == 8) && (!has(self.alpha) || self.alpha == 16.0) && "
            "(!has(self.rankStabilized) || !self.rankStabilized) && (!has(self.dropout) || self.dropout == 0.0) && "
            "(!has(self.targetModules) || self.targetModules == 'Auto') && !has(self.modulesToSave))",
            "rank, alpha, rankStabilized, dropout, targetModules and modulesToSave are of LoRA, DoRA and QLoRA: leave "
            "them out with Prefix, PromptTuning and PTuning",
            lambda self: not self.before_text or not _of_layers(self),
            "method",
            lambda self: f"{self.method} with {', '.join(_of_layers(self))}",
        ),
        Rule(
            "(!has(self.virtualTokens) || self.virtualTokens == 20) && !has(self.encoderHiddenSize) || "
            "has(self.method) && self.method in ['Prefix', 'PromptTuning', 'PTuning']",
            "virtualTokens and encoderHiddenSize are of Prefix, PromptTuning and PTuning: leave them out with other "
            "methods",
            lambda self: self.before_text or (self.virtual_tokens == 20 and self.encoder_hidden_size is None),
            "method",
        ),
        Rule(
            "!has(self.encoderHiddenSize) || has(self.method) && self.method == 'PTuning'",
            "encoderHiddenSize is of PTuning, which has an encoder: leave it out with other methods",
            lambda self: self.encoder_hidden_size is None or self.method == "PTuning",
            "encoderHiddenSize",
        ),
    )

    method: Literal["None", "LoRA", "DoRA", "QLoRA", "Prefix", "PromptTuning", "PTuning"] = "LoRA"
    """LoRA and DoRA add thin matrices to the layers; QLoRA is LoRA on a base whose linear layers are held in 4 bits
    (NF4, by bitsandbytes) while it trains. Prefix, PromptTuning and PTuning train virtual tokens that stand in front of
    every document, in the last stage alone: the artifact holds them beside a base that stays as it is."""
    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=16.0, gt=0, le=65536)
    """The adapter is scaled by alpha / rank."""
    rank_stabilized: bool = False
    """Scale it by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023): a high rank then learns as fast as a low
    one."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str = Field(default="Auto", max_length=1024, pattern=TARGETS_PATTERN)
    """Auto (every linear layer but the output, and the experts of a mixture), or names of them separated by commas:
    q_proj,v_proj. Experts that are one tensor get none with DoRA, dropout or zeroStage 3."""
    modules_to_save: Annotated[list[LayerName], Field(min_length=1, max_length=64)] | None = None
    """Layers that are trained whole beside the adapter, such as embed_tokens and lm_head; where those two are one
    weight, either name trains it as one."""
    virtual_tokens: int = Field(default=20, ge=1, le=4096)
    """Of Prefix, PromptTuning and PTuning: they and maxLength have to fit into the positions of the model."""
    encoder_hidden_size: int | None = Field(default=None, ge=1, le=65536)
    """Of PTuning: width of the encoder that makes its virtual tokens; as wide as the model when left out."""

    @property
    def before_text(self) -> bool:
        """Whether it stands in front of a text, and not on layers."""
        return self.method in PROMPT_METHODS


def _of_layers(adapter: Adapter) -> list[str]:
    """Returns the fields that are set although only an adapter on layers has a use for them."""
    set_ = {
        "rank": adapter.rank != 8,
        "alpha": adapter.alpha != 16.0,
        "rankStabilized": adapter.rank_stabilized,
        "dropout": adapter.dropout != 0.0,
        "targetModules": adapter.target_modules != "Auto",
        "modulesToSave": adapter.modules_to_save is not None,
    }
    return [name for name, is_set in set_.items() if is_set]


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
            "!has(self.tooLong) || self.tooLong in ['Auto', 'Drop', 'Refuse'] || !has(self.objective) || "
            "self.objective != 'Preference'",
            "a pair of answers cannot be cut: half an answer is not what was preferred. Use Auto, Drop or Refuse",
            lambda self: self.too_long in ("Auto", "Drop", "Refuse") or self.objective != "Preference",
            "tooLong",
        ),
        Rule(
            "!has(self.preference) || (has(self.objective) && self.objective == 'Preference')",
            "preference is of pairs of answers: it needs objective: Preference",
            lambda self: self.preference is None or self.objective == "Preference",
            "preference",
        ),
        Rule(
            "!has(self.labelSmoothing) || self.labelSmoothing == 0.0 || !has(self.objective) || "
            "self.objective != 'Preference'",
            "labelSmoothing is of targets, and a preference has none: leave it out with objective: Preference",
            lambda self: self.label_smoothing == 0 or self.objective != "Preference",
            "labelSmoothing",
        ),
        Rule(
            "!has(self.objective) || self.objective != 'Preference' || !has(self.adapter) || "
            "!has(self.adapter.method) || !(self.adapter.method in ['Prefix', 'PromptTuning', 'PTuning'])",
            "virtual tokens are not trained by preferences: use LoRA, DoRA or QLoRA, or no adapter",
            lambda self: self.objective != "Preference" or not self.virtual_tokens,
            "adapter",
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
            "!has(self.adapter) || !has(self.adapter.method) || "
            "!(self.adapter.method in ['QLoRA', 'Prefix', 'PromptTuning', 'PTuning']) || !has(self.memory) || "
            "!(has(self.memory.zeroStage) && self.memory.zeroStage == 3 || "
            "has(self.memory.offload) && self.memory.offload == 'All')",
            "ZeRO-3 divides neither the 4 bits of QLoRA nor virtual tokens: set memory.zeroStage to Auto, 0, 1 or 2, "
            "and memory.offload to None or Optimizer",
            lambda self: (
                self.adapter is None
                or self.adapter.method not in ("QLoRA", *PROMPT_METHODS)
                or not self.memory.divides_weights
            ),
            "adapter",
        ),
        Rule(
            "!has(self.adapter) || !has(self.adapter.method) || self.adapter.method != 'Prefix' || "
            "!has(self.memory) || !has(self.memory.gradientCheckpointing) || "
            "self.memory.gradientCheckpointing != 'Enabled'",
            "a layer that is computed twice forgets the prefix before it: set memory.gradientCheckpointing to Auto, or "
            "use PromptTuning or PTuning",
            lambda self: (
                self.adapter is None
                or self.adapter.method != "Prefix"
                or self.memory.gradient_checkpointing != "Enabled"
            ),
            "adapter",
        ),
        Rule(
            "!(has(self.data.temperature) || self.data.train.exists(s, has(s.proportion))) || has(self.steps) || "
            "has(self.tokens)",
            "proportion and temperature are shares of what the stage sees: set its steps or tokens",
            lambda self: not self.data.mixed or self.steps is not None or self.tokens is not None,
            "data",
        ),
        Rule(
            "!has(self.optimizer) || !has(self.optimizer.name) || self.optimizer.name != 'Muon' || "
            "!has(self.memory) || !has(self.memory.zeroStage) || self.memory.zeroStage != 3",
            "Muon needs whole matrices, which memory.zeroStage 3 cuts: use 0, 1, 2 or Auto, or AdamW",
            lambda self: self.optimizer.name != "Muon" or self.memory.zero_stage != 3,
            "memory",
        ),
        Rule(
            "!has(self.memory) || !has(self.memory.offload) || self.memory.offload == 'None' || "
            "!has(self.optimizer) || !has(self.optimizer.name) || self.optimizer.name == 'AdamW'",
            "with memory.offload the host takes the optimizer's step, which is built for AdamW alone: use "
            "optimizer.name AdamW, or offload: None",
            lambda self: self.memory.offload == "None" or self.optimizer.name == "AdamW",
            "memory",
            lambda self: f"offload: {self.memory.offload} with {self.optimizer.name}",
        ),
        Rule(
            "!has(self.compile) || self.compile != 'Enabled' || !has(self.memory) || !has(self.memory.zeroStage) || "
            "self.memory.zeroStage != 3",
            "memory.zeroStage 3 fetches weights within each block, which cannot be compiled: set compile to Auto or "
            "Disabled, or zeroStage to Auto, 0, 1 or 2",
            lambda self: self.compile != "Enabled" or self.memory.zero_stage != 3,
            "compile",
        ),
        Rule(
            "!has(self.compile) || self.compile != 'Enabled' || !has(self.adapter) || !has(self.adapter.method) || "
            "!(self.adapter.method in ['Prefix', 'PromptTuning', 'PTuning'])",
            "blocks with virtual tokens in front of them are not compiled: set compile to Auto or Disabled",
            lambda self: self.compile != "Enabled" or self.virtual_tokens == 0,
            "compile",
        ),
    )

    name: Name
    """Names the stage in status, logs and the workspace; the same name is not given twice."""
    objective: Literal["CausalLM", "Chat", "Preference"] = "CausalLM"
    """CausalLM learns every token of a text, Chat the assistant's tokens of a conversation, Preference which of two
    answers is the better one."""
    preference: Preference | None = None
    """How Preference learns; DPO when left out."""
    learn: Literal["AllAnswers", "LastAnswer"] = "AllAnswers"
    """Which answers of a conversation are learned; what a row itself takes out, by weight or train, never is."""
    too_long: TooLong = "Auto"
    """What becomes of a row longer than maxLength. Auto splits texts, ends conversations with the last answer that
    fits, and leaves pairs of answers out. Truncate ends texts at maxLength, Drop leaves the row out, Refuse ends the
    run. All of it is counted."""
    data: StageData
    seed: int = Field(default=0, ge=0, lt=1 << 31)
    """Makes the order of the data, the dropout and the new weights."""
    select: Literal["Last", "Best"] = "Last"
    """Which weights the stage ends with: the last, or those with the lowest validation loss of which there is a
    checkpoint; of Preference with the highest validation accuracy, and of equals the lowest loss."""
    early_stop: EarlyStop | None = None
    max_length: int = Field(default=512, ge=8, le=1048576)
    """Tokens of a packed row. tooLong says what becomes of what is longer. A pair of answers, each behind its prompt,
    stands in one row."""
    epochs: float | None = Field(default=None, gt=0, le=100000)
    """Passes over the data; 1 when epochs, steps and tokens are left out."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps instead."""
    tokens: int | None = Field(default=None, ge=1)
    """Trained tokens instead."""
    batch: Batch = Batch()
    optimizer: Optimizer = Optimizer()
    neftune_noise_alpha: float | None = Field(default=None, gt=0, le=1000)
    """Adds noise to the embedded tokens while training (NEFTune, Jain et al. 2023): uniform, within this over the root
    of a document's length times the hidden size. 5 is usual."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over the whole vocabulary, in the training loss alone: validation and
    evaluation are not smoothed."""
    precision: Literal["Auto", "BF16", "FP16", "FP32"] = "Auto"
    """Auto: BF16 on a GPU that has it, FP16 on an older one, FP32 on a CPU."""
    memory: Memory = Memory()
    compile: Literal["Auto", "Enabled", "Disabled"] = "Auto"
    """Compile the blocks of the model with torch.compile, which needs a C compiler beside torch. Auto: on a GPU, of the
    families with which it was tried, where that compiler is there."""
    adapter: Adapter | None = None

    @property
    def virtual_tokens(self) -> int:
        """How many virtual tokens stand in front of each text; 0 without an adapter that has any."""
        return self.adapter.virtual_tokens if self.adapter is not None and self.adapter.before_text else 0
