"""What `slipway preview` shows of a plan before anything is trained: told by the trainer, drawn by the command line.

Amounts are of all the data. Where `sampled` says so, they were told from some of the rows, and a margin says how well.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slipway_core.resources.api import Api, Digest

Split = Literal["train", "validation"]
Layer = Literal["Read", "Learned", "Special", "SpecialLearned"]
"""What a piece of a text is: read, or learned; of it special tokens apart."""


class FileView(Api):
    """A file that a source of the plan names."""

    field: str
    """Of the plan."""
    name: str
    split: Split
    form: str | None
    """None where its first row has none that can be used."""
    rows: int
    """Counted, all of them."""
    looked_at: int
    """Of these, the rows that everything else is told from."""
    bytes: int
    weight: float = 1.0
    unused: dict[str, int] = Field(default_factory=dict[str, int])
    """Fields that nothing asks for, with how many of the rows looked at have them."""
    blank: int = 0
    """Of the rows looked at, those whose text says nothing, and that are left out."""


class Amount(Api):
    """A number of the whole data."""

    value: float
    margin: float = 0.0
    """Half of the 95 % interval; 0 where every row was looked at."""


class Fate(Api):
    """What becomes of rows that are not learned as they stand."""

    what: str
    rows: Amount
    examples: list[str] = Field(default_factory=list[str])
    """The first of them, as file:line."""


class Lengths(Api):
    """Tokens of the rows, before any is cut."""

    edges: list[int]
    """Of the bins, one more than there are counts: a bin has what is longer than its first edge and not longer than its
    second one; the last bin holds all that is longer too."""
    counts: list[float]
    """Rows of each bin."""
    median: int
    p90: int
    p99: int
    longest: int
    above: float
    """Share of the rows that are longer than maxLength."""


class Piece(Api):
    text: str
    layer: Layer


class ShownRow(Api):
    """A row as it is learned."""

    place: str
    form: str
    texts: list[list[Piece]]
    """Each a text of the shards."""
    cut: bool = False
    """Whether there is more of it than is shown."""


class Extent(Api):
    """How far the stage goes."""

    steps: int
    sequences: int
    """Packed rows of a step."""
    epochs: float
    tokens: float
    """Trained tokens, padding apart."""
    padding: float
    """Share of the packed rows that is padding."""


class SourceView(Api):
    """How much of what a stage sees is of one of its sources."""

    field: str
    """Of the plan."""
    uri: str
    share: float
    """Of the tokens that the stage sees."""
    times: float
    """How often each of its documents is seen, in the mean."""


class MemoryPart(Api):
    """What one thing takes, in bytes."""

    name: str
    device: int = 0
    """On a CPU of its only memory."""
    host: int = 0
    """Beside a GPU, of the host's."""


class MemoryView(Api):
    """What one process of a stage is estimated to need at its peak, and what was chosen to fit."""

    parts: list[MemoryPart]
    kind: str
    """cpu or cuda."""
    processes: int
    """Of the whole stage."""
    available: int
    """Bytes of the device that a process may have."""
    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    precision: str
    offload: str = "None"
    reasons: dict[str, str] = Field(default_factory=dict[str, str])
    refused: str | None = None
    """Why it cannot fit, and what would."""

    @property
    def device(self) -> int:
        return sum(part.device for part in self.parts)

    @property
    def host(self) -> int:
        return sum(part.host for part in self.parts)


class StageMemory(Api):
    """The memory of a stage, told from the plan alone."""

    name: str
    parameters: int
    trained: int
    memory: MemoryView


class PlanMemory(Api):
    """What `slipway plan --memory` shows: told by the trainer, drawn by the command line."""

    run: str
    device: str
    stages: list[StageMemory]


class Cost(Api):
    extent: Extent
    sources: list[SourceView] = Field(default_factory=list[SourceView])
    """Of a stage that has several."""
    memory: MemoryView | None = None
    """None where no model could be made of the plan."""
    parameters: int = 0
    trained: int = 0
    tokens_per_second: float | None = None
    speed: str = ""
    """Where that speed is from."""
    hours: float | None = None


class StageView(Api):
    name: str
    objective: str
    max_length: int
    files: list[FileView]
    rows: int
    documents: Amount
    """Texts of an epoch."""
    tokens: Amount
    learned: Amount
    """Of the tokens, those that are targets."""
    validation_tokens: Amount | None = None
    fates: list[Fate] = Field(default_factory=list[Fate])
    duplicates: int = 0
    """Of the rows looked at, those that say the same as one before them, and stay."""
    lengths: Lengths | None = None
    cost: Cost | None = None
    shown: list[ShownRow] = Field(default_factory=list[ShownRow])


class OverlapView(Api):
    held: str
    training: str
    rule: str
    share: float
    discounted: str = ""
    """Why it is none, of what shares boilerplate alone with the training data."""


class GatePower(Api):
    """What a gate can show with the rows that it has."""

    gate: str
    """The metric with the rows that count, and what is asked."""
    says: str
    never: str = ""
    """Where no model can pass it with these rows, its place in the manifest and its metric; else empty."""
    unsure: str = ""
    """Why prepare may leave more of these rows out."""


class GateData(Api):
    """What a gate is going to be measured on."""

    gate: str
    """The metric with the rows that count, and what is asked."""
    digest: Digest | None = None
    """As `data` of a required gate names it, of exactly what the preview read. None where that is not known yet."""
    unsure: str = ""
    """Why prepare may tell another one, or why there is none yet."""


class RequiredGateView(Api):
    """A gate that an endpoint requires, and whether the run is going to answer it."""

    gate: str
    answered: bool | None
    """Whether it is where the model passes the gates of the run; None where nobody knows yet."""
    says: str
    """By which gate of the run, or what is lacking."""


class AskedByEndpoint(Api):
    """What an endpoint asks of the model of a run."""

    name: str
    approval: bool = False
    """Whether somebody has to approve it."""
    gates: list[RequiredGateView] = Field(default_factory=list[RequiredGateView])

    @property
    def lacks(self) -> bool:
        return any(gate.answered is False for gate in self.gates)


class LeftOutView(Api):
    """What is held out and stands in the training data, where the run leaves such out."""

    documents: int = 0
    conversations: int = 0
    of_tasks: int = 0


class HeldOutView(Api):
    documents: int = 0
    """With those that are left out."""
    conversations: int = 0
    """The same."""
    of_tasks: int = 0
    """The same, documents of tasks whose rows were read here."""
    left_out: LeftOutView = LeftOutView()
    """Of all these."""
    prompts: int = 0
    judge: str = ""
    """How often a judge model will be asked, in a sentence; empty without one."""
    tasks: list[str] = Field(default_factory=list[str])
    """Names of the tasks of lm-evaluation-harness whose rows are of the hub, and not read here."""
    overlaps: list[OverlapView] = Field(default_factory=list[OverlapView])
    """Of the rows looked at, the first ones."""
    more: int = 0
    """Further ones."""
    gates: list[GatePower] = Field(default_factory=list[GatePower])
    gate_data: list[GateData] = Field(default_factory=list[GateData])
    """One a gate, in the plan's order; nothing where the held-out data could not be read."""


class Preview(Api):
    run: str
    model: str
    """In a sentence."""
    tokenizer: str
    """In a sentence."""
    device: str
    sampled: float
    """Share of the training rows that was looked at; 1.0 is all of them."""
    problems: list[str] = Field(default_factory=list[str])
    """What would end the run, each with file, line or field, and what to do."""
    warnings: list[str] = Field(default_factory=list[str])
    stages: list[StageView] = Field(default_factory=list[StageView])
    held_out: HeldOutView = HeldOutView()
    endpoint: AskedByEndpoint | None = None
    """What the endpoint asks that the preview was told of."""
    seconds: float = 0.0
