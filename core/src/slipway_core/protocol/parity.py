"""Whether what is served is what was judged: the record that an evaluation leaves, and what a server makes of it.

The evaluation writes down, for public texts and conversations that come with it, the ids that it made of them, the
tokens that end an answer, and the log-probability of each id in float32. A server makes the same of them as it does
for clients, and compares. The record holds its texts itself, so that a release that has others reads it too.

How far figures may differ was measured: of the statistics of |Δ log p|, the median alone separates a faulty model from
rounding. Its maximum does not: in bf16 one token of an honest model differs by 6 nats.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from statistics import median
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from slipway_core.protocol.artifact import FileEntry

VERSION: Final = 1
LIMIT: Final = 32 * 1024
"""Bytes of a record."""
LEAST_TOKENS: Final = 256
"""Tokens below which a median tells little."""
FLOAT32_BOUND: Final = 5e-4
"""Nats: honest engines differ by 5e-6 in float32, and by 4e-3 with 1 % noise in one layer."""
BF16_FACTOR: Final = 3.0
"""How many times its own median of rounding to bf16 a model may be off: engines round at other places."""

FAILED: Final = "ParityFailed:"
"""How the last words of a server begin that is not the model that was judged."""
UNKNOWN: Final = "ParityUnknown:"
"""How the message of a version begins of which that is not known."""

_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "chat_template*",
)


class RecordError(ValueError):
    """A record cannot be used: the message says why, and nothing of the file's content."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Piece(_Part):
    """A text or a conversation, and what the judge made of it."""

    name: Annotated[str, Field(max_length=64)]
    text: str | None = None
    """Raw text, or the prompt of a conversation as it was rendered, where the template writes today's date."""
    messages: list[dict[str, str]] | None = None
    """A conversation, whose prompt up to the answer is rendered by the template."""
    ids: Annotated[list[int], Field(min_length=1)]
    """Of a raw text: without a prefix. Of a prompt: all of it."""
    log_probabilities: list[float]
    """Of each id, in nats and float32: of a raw text behind the prefix, of a prompt all but the first."""
    begins_itself: bool = False
    """Whether the ids are scored without the prefix, as those of a prompt are."""

    @model_validator(mode="after")
    def _fits(self) -> Piece:
        if len(self.log_probabilities) != len(self.ids) - self.begins_itself:
            raise ValueError("has another number of log-probabilities than of ids")
        if (self.text is None) == (self.messages is None):
            raise ValueError("must be a text or a conversation")
        return self

    def inputs(self, prefix: int) -> list[int]:
        """Returns what the model is given: the first id is the one that is not scored."""
        return self.ids if self.begins_itself else [prefix, *self.ids]


class Record(_Part):
    """`evaluation/<n>/parity.json`."""

    version: int = VERSION
    artifact: str
    """Digest of the model."""
    tokenizer: str
    """Digest of its tokenizer's files, as `tokenizer_digest` makes it."""
    stop_ids: list[int]
    """Tokens that end an answer, sorted."""
    prefix: int
    """What the first token of a raw text is conditioned on."""
    bf16_median: float
    """Median of |Δ log p| of this model in bf16 against itself in float32, by the judge."""
    pieces: list[Piece]

    @property
    def tokens(self) -> int:
        return sum(len(piece.log_probabilities) for piece in self.pieces)

    def bound(self, *, float32: bool) -> float:
        """Returns how far the median may be off, for an engine that computes in float32 or in less."""
        return FLOAT32_BOUND if float32 else max(FLOAT32_BOUND, BF16_FACTOR * self.bf16_median)

    def within(self, context: int) -> Record:
        """Returns the record of what an engine with so many tokens of prompt and answer can be asked."""
        kept = [piece for piece in self.pieces if len(piece.inputs(self.prefix)) < context]
        return self.model_copy(update={"pieces": kept})

    def dump(self) -> str:
        """Returns the text of the file. Raises RecordError when it is larger than LIMIT."""
        document = self.model_dump(by_alias=True, exclude_none=True)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        if (size := len(text.encode())) > LIMIT:
            raise RecordError(f"it has {size} bytes, and {LIMIT} are the most")
        return text


@dataclass(frozen=True)
class Outcome:
    """What a server knows of itself."""

    passed: bool | None
    """None where it is not known."""
    median: float | None = None
    """Of |Δ log p|, in nats."""
    reason: str | None = None
    """Why not: the first place that differs, or what was not there to compare."""


def passed_in(said: Any) -> bool | None:
    """Returns what a server's answer to /promptz says of its outcome; None where it does not know, or says nothing of
    it, as one of an earlier release."""
    told: Any = cast(dict[str, Any], said).get("parity") if isinstance(said, dict) else None
    found: Any = cast(dict[str, Any], told).get("pass") if isinstance(told, dict) else None
    return found if isinstance(found, bool) else None


def unknown_in(said: Any) -> str:
    """Returns why a server does not know its outcome, by its answer to /promptz; empty where it says nothing of it."""
    told: Any = cast(dict[str, Any], said).get("parity") if isinstance(said, dict) else None
    why: Any = cast(dict[str, Any], told).get("unknown") if isinstance(told, dict) else None
    return why if isinstance(why, str) else ""


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tokenizer_digest(files: Mapping[str, FileEntry]) -> str:
    """Returns a digest of what makes tokens of text, among the files of an artifact.

    A merge that is missing changes the ids of hardly any text: that the files are the same is the only proof.
    """
    own = {
        name: entry.sha256
        for name, entry in files.items()
        if "/" not in name and any(fnmatch(name, pattern) for pattern in _TOKENIZER_FILES)
    }
    return digest_of("".join(f"{sha}  {name}\n" for name, sha in sorted(own.items())).encode())


def parse(content: bytes, *, digest: str | None, artifact: str) -> Record:
    """Reads a record.

    Args:
        content: of the file.
        digest: that it must have, as the status has it; None does not ask.
        artifact: digest of the model that it must be of.

    Raises RecordError for one that was cut or changed, is of another version of this form, or of another model.
    """
    if len(content) > LIMIT:
        raise RecordError(f"it has more than {LIMIT} bytes, so it is no record")
    if digest is not None and digest_of(content) != digest:
        raise RecordError(f"it has the digest {digest_of(content)}, and {digest} was asked for: it was cut or changed")
    try:
        document: Any = json.loads(content)
    except ValueError:
        raise RecordError("it is no JSON: it was cut or changed") from None
    version = cast(dict[str, Any], document).get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise RecordError(f"it is of version {version}, and this server reads version {VERSION}")
    try:
        record = Record.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RecordError(f"it is damaged: {where}: {first['msg']}") from None
    if record.artifact != artifact:
        raise RecordError(f"it is of the model {record.artifact}, and {artifact} is served")
    return record


def enough(record: Record) -> Outcome | None:
    """Returns why a record that was cut to an engine's context proves nothing; None where it does."""
    if record.tokens >= LEAST_TOKENS:
        return None
    return Outcome(
        None,
        reason=f"{record.tokens} tokens of the record fit into the engine's context, and {LEAST_TOKENS} are needed",
    )


def compare_tokens(
    record: Record, *, tokenizer: str, stop_ids: Sequence[int], ids: Mapping[str, Sequence[int] | str]
) -> Outcome | None:
    """Returns the first place where a server's own tokens differ from the judge's; None where none does.

    Args:
        record: of what the engine can be asked.
        tokenizer: digest of the tokenizer's files.
        stop_ids: what ends an answer.
        ids: what the server made of each piece, by its name, or why it made nothing of it.
    """
    if sorted(stop_ids) != record.stop_ids:
        return Outcome(
            False, reason=f"an answer ends at the tokens {sorted(stop_ids)}, and at {record.stop_ids} in the evaluation"
        )
    for piece in record.pieces:
        own = ids[piece.name]
        if isinstance(own, str):
            return Outcome(False, reason=f"{piece.name}: no tokens are made of it: {own}")
        if list(own) != piece.ids:
            place = next((n for n, (a, b) in enumerate(zip(own, piece.ids, strict=False)) if a != b), None)
            place = min(len(own), len(piece.ids)) if place is None else place
            return Outcome(
                False,
                reason=f"{piece.name}, token {place}: the id is {_at(own, place)}, and {_at(piece.ids, place)} in the "
                "evaluation",
            )
    if tokenizer != record.tokenizer:
        # All of these texts are the same tokens, and others need not be.
        return Outcome(False, reason="the tokenizer's files are not those of the evaluation")
    return None


def compare_figures(record: Record, own: Mapping[str, Sequence[float]], *, float32: bool) -> Outcome:
    """Holds a server's log-probabilities of each piece, by its name, against the judge's."""
    bound = record.bound(float32=float32)
    pairs = [
        (piece.name, place, wanted, found)
        for piece in record.pieces
        for place, (wanted, found) in enumerate(zip(piece.log_probabilities, own[piece.name], strict=True))
    ]
    differences = [_difference(wanted, found) for _, _, wanted, found in pairs]
    middle = median(differences)
    if middle <= bound:
        return Outcome(True, middle)
    name, place, wanted, found = next(pair for pair, off in zip(pairs, differences, strict=True) if off > bound)
    return Outcome(
        False,
        middle if math.isfinite(middle) else None,
        f"log p differs by {middle:.2g} in the median of {len(pairs)} tokens, and by {bound:.2g} at most in an honest "
        f"engine; first at {name}, token {place}: {found:.4f}, and {wanted:.4f} in the evaluation",
    )


def _difference(one: float, other: float) -> float:
    difference = abs(one - other)
    return difference if math.isfinite(difference) else math.inf


def _at(ids: Sequence[int], place: int) -> str:
    return str(ids[place]) if place < len(ids) else "none"
