"""A verdict as a statement that others can check: in-toto's Statement v1, whose predicate is what was judged.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. The subject is the model, by the digest of its
manifest, which covers every file. `envelope` signs it, `trust` says whether it holds.

A field that is not known here is left aside, as in-toto asks: a later release may say more about a judgement. It may
not say there what takes a pass back; that needs another predicate type, which is refused here.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field

from slipway_core.protocol.sketch import HASHES
from slipway_core.resources.api import Api, Digest, ShortText
from slipway_core.resources.asked import AskedFigures
from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.status import Verdict

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slipway.dev/verdict/v1"
GATES_LIMIT = 64
TRAINING_LIMIT = 32
URL_LIMIT = 253
REASON_LIMIT = 1024
METRIC_LIMIT = 128
THRESHOLD_LIMIT = 64
MODEL = "model"
"""Name of the subject: where it lies changes, its digest does not."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _real(moment: str) -> str:
    parse_timestamp(moment)
    return moment


Moment = Annotated[
    str,
    AfterValidator(_real),
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
]
"""RFC 3339 in UTC, whole seconds: so moments are in the order of their texts."""


class Stated(Api):
    """Base of what is read from a statement: strict about what it knows, and deaf to the rest."""

    model_config = ConfigDict(extra="ignore")


class DigestSet(Stated):
    sha256: Hex
    """Of the list of files, as `protocol.artifact.digest_of` makes it."""


class Subject(Stated):
    name: ShortText
    digest: DigestSet


class JudgedRun(Stated):
    name: ShortText
    uid: ShortText
    namespace: ShortText | None = None
    """None on one machine."""


class JudgedData(Stated):
    held_out: ShortText | None = None
    """Digest of what was measured upon."""
    training: Annotated[dict[ShortText, ShortText], Field(max_length=TRAINING_LIMIT)] = Field(
        default_factory=dict[str, str]
    )
    """Digest of what each stage learned from, by `<stage>/<split>`, where it is known."""
    sketch: Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]], Field(max_length=HASHES)] = Field(
        default_factory=list[str]
    )
    """The smallest hashes of held-out documents, by which two judgements tell how many of these they share."""


class AskedOfIt(AskedFigures, Stated):
    """What a gate asked, in figures: what an endpoint requires is held against it."""

    @classmethod
    def of(cls, asked: AskedFigures) -> Self:
        return cls(**{name: getattr(asked, name) for name in AskedFigures.model_fields})


class JudgedGate(Stated):
    metric: Annotated[str, Field(min_length=1, max_length=METRIC_LIMIT)]
    source: ShortText | None = None
    slice: ShortText | None = None
    task: ShortText | None = None
    threshold: Annotated[str, Field(max_length=THRESHOLD_LIMIT)]
    verdict: Verdict
    value: float | None = None
    difference: float | None = None
    """How much worse than live it is, of a gate on a regression."""
    lower: float | None = None
    upper: float | None = None
    confidence: float | None = None
    clusters: int | None = None
    data: Digest | None = None
    """Of the rows that it was measured on, with all that makes them easy or hard. None in statements of releases that
    did not say it."""
    asked: AskedOfIt | None = None
    """None in statements of releases that did not say it."""


class JudgeAgreement(Stated):
    """How far a judge model agreed with itself, from 0 to 1."""

    orders: float | None = None
    """Share of the pairs that came out alike in both orders."""
    repeats: float | None = None
    """How near the repeats of a question were to each other."""


class JudgedBy(Stated):
    """The judge model that was asked, for gates on what it says."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Its name, as it was asked for."""
    url: Annotated[str, Field(max_length=URL_LIMIT)]
    """Of its API, without user, password and query."""
    compare: Annotated[str, Field(max_length=16)] | None = None
    """What win_rate compares with: Live, Base or Reference."""
    repeats: Annotated[int, Field(ge=1)] = 1
    """How often each question was put."""
    criteria: Digest
    """Of the words by which it judged, as UTF-8. They stand in the plan."""
    agreement: JudgeAgreement = Field(default_factory=JudgeAgreement)


class Approval(Stated):
    """Who let a model through beside the gates, of an executor that asks before it signs. A cluster signs first, and an
    endpoint's status has who approved what."""

    user: ShortText
    at: Moment


class Judgement(Stated):
    """The predicate: one evaluation of one run, and how it came out."""

    run: JudgedRun
    endpoint: ShortText | None = None
    """What the run would serve the model at. None where it serves nothing, and of a release that did not say it."""
    plan: Digest
    evaluation: Annotated[int, Field(ge=1)]
    judged_at: Moment
    verdict: Verdict
    reason: Annotated[str, Field(max_length=REASON_LIMIT)] | None = None
    says_nothing: Literal[True] | None = None
    """Of an inconclusive one, whether it says nothing of the model: the evaluation failed, or what it needed beside the
    model was not there, such as the judge's server. None where an earlier one of the same run said something and
    was no pass, even where another run passed in between, and in statements of releases that did not say it."""
    gates: Annotated[list[JudgedGate], Field(max_length=GATES_LIMIT)] = Field(default_factory=list[JudgedGate])
    data: JudgedData = Field(default_factory=JudgedData)
    scored_tokens: Annotated[int, Field(ge=0)] = 0
    baseline: Digest | None = None
    """The live version that it was compared with."""
    parity: Digest | None = None
    """Of the record by which a server finds that it computes the same."""
    remote_code: Literal[True] | None = None
    """Whether code that came with the model ran in the process that judged it (model.trustRemoteCode): such a pass is
    the model's own word."""
    judge: JudgedBy | None = None
    """None where no judge model was asked, and in statements of releases that did not say it."""
    versions: Annotated[dict[ShortText, ShortText], Field(max_length=16)] = Field(default_factory=dict[str, str])
    """Of what judged: `slipway`, and `image` where it ran in one."""
    approval: Approval | None = None


class Statement(Stated):
    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")] = STATEMENT_TYPE
    subject: Annotated[list[Subject], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://slipway.dev/verdict/v1"] = PREDICATE_TYPE
    predicate: Judgement

    @classmethod
    def about(cls, digest: str, judgement: Judgement) -> Statement:
        """Returns the statement on a model of this digest (sha256:HEX)."""
        named = Subject(name=MODEL, digest=DigestSet(sha256=digest.removeprefix("sha256:")))
        return cls(subject=[named], predicate=judgement)

    @property
    def digest(self) -> str:
        """Returns the digest of the model, as a manifest has it."""
        return f"sha256:{self.subject[0].digest.sha256}"


def canonical(statement: Statement) -> bytes:
    """Returns the bytes that are signed: UTF-8, fields in the order of the alphabet, no spaces, nothing that is None.
    The same judgement has the same bytes, whoever writes them down, and whenever."""
    text = json.dumps(
        statement.to_document(), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return text.encode()


def finite(value: float | None) -> float | None:
    """Returns a figure as a statement can hold it."""
    return value if value is not None and math.isfinite(value) else None
