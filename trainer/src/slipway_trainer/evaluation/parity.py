"""The record by which a server proves that it serves the model that was judged (`slipway_core.protocol.parity`).

Log-probabilities are float32 whatever the model was loaded in. On an accelerator it is there in its own precision, and
there may be no room for all of it in twice as much, so each block is widened while it computes, which is exact.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from slipway_core.protocol import parity, quantized
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.parity import Piece, Record, RecordError
from slipway_trainer.evaluation import parity_texts
from slipway_trainer.evaluation.perplexity import BATCH_LOGITS, positions, prefix_token
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.step.errors import BadArtifact, BadModel, first_line
from slipway_trainer.tokens.chat_rendering import Unrenderable
from slipway_trainer.tokens.prompt_tokens import PromptTokens

TOKENS = 512
"""Tokens with which a record is long enough: 256 separate a faulty model, and an engine may take short texts alone."""
_MOST_TOKENS = 900
"""Tokens that a record has at most: with a tokenizer of single bytes one text more could be hundreds."""
_NOTHING = 1
"""What an engine needs beside a prompt: room for a token of an answer."""


class NoRecord(Exception):
    """There can be none of this model: the message says why."""


@dataclass
class KeptRecord:
    """The record of a model that is measured: taken last, since it changes the model."""

    manifest: Manifest
    text: str | None = None
    """As it is written; None where there can be no record."""
    report: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the report of the evaluation says of it."""

    def compute_of(self, load: Callable[[], ExportedModel]) -> None:
        """Computes the record of a model that something else has measured."""
        try:
            exported = load()
        except (BadArtifact, BadModel, RuntimeError, ImportError) as error:
            self.report = {"missing": first_line(error)}
            return
        self.compute(exported)

    def compute(self, exported: ExportedModel) -> None:
        started = time.monotonic()
        try:
            record = compute(exported, self.manifest)
            self.text = record.dump()
        except (NoRecord, RecordError, RuntimeError) as error:
            # All else is measured by now: a device without room for this takes no verdict away.
            self.report = {"missing": first_line(error)}
            return
        self.report = {
            "digest": self.digest,
            "tokens": record.tokens,
            "bf16_median": record.bf16_median,
            "seconds": round(time.monotonic() - started, 3),
        }

    @property
    def digest(self) -> str | None:
        return None if self.text is None else parity.digest_of(self.text.encode())


@torch.inference_mode()
def compute(exported: ExportedModel, manifest: Manifest) -> Record:
    """Returns the record of a model, which is rounded to bf16 by it: nothing else may be measured afterwards.

    Raises NoRecord.
    """
    if exported.virtual_tokens:
        raise NoRecord("a model with virtual tokens is not served")
    try:
        prefix = prefix_token(exported.tokenizer)
    except ValueError as error:
        raise NoRecord(str(error)) from None
    model = exported.model
    if any(weight.is_meta for weight in model.parameters()):
        raise NoRecord("parts of the model are on the host and go to a GPU one after the other")
    pieces = _pieces(exported, prefix)
    inputs = [piece.inputs(prefix) for piece in pieces]
    if getattr(model.config, quantized.KEY, None) is not None:
        # Such weights become numbers in the first pass, and are other parameters from then on.
        log_probabilities(model, inputs[:1])
    with in_float32(model):
        figures = log_probabilities(model, inputs)
    if not all(math.isfinite(value) for row in figures for value in row):
        raise NoRecord("a log-probability in float32 is NaN or infinite")
    round_weights(model)
    rounded = log_probabilities(model, inputs)
    return Record(
        artifact=manifest.digest,
        tokenizer=parity.tokenizer_digest(manifest.files),
        stop_ids=exported.end_tokens,
        prefix=prefix,
        bf16_median=round(_median_difference(figures, rounded), 7),
        pieces=[
            piece.model_copy(update={"log_probabilities": [round(value, 6) for value in row]})
            for piece, row in zip(pieces, figures, strict=True)
        ],
    )


def log_probabilities(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> list[list[float]]:
    """Returns the log-probability of every id of each row but the first, in nats; log-softmax is float32."""
    vocabulary = getattr(model.config.get_text_config(), "vocab_size", None) or 1
    longest = max(map(len, rows))
    at_once = max(1, BATCH_LOGITS // (vocabulary * longest))
    found: list[list[float]] = []
    for start in range(0, len(rows), at_once):
        found += _of_batch(model, rows[start : start + at_once])
    return found


def _of_batch(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> list[list[float]]:
    ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    # Padding stands at the right and attention is causal: no scored position sees it, so no mask is needed.
    logits = model(input_ids=ids.to(model.device), use_cache=False).logits
    found: list[list[float]] = []
    for number, row in enumerate(rows):
        own = torch.log_softmax(logits[number, : len(row) - 1].float(), dim=-1)
        wanted = torch.tensor(row[1:], device=own.device)[:, None]
        found.append(own.gather(-1, wanted)[:, 0].cpu().tolist())
    return found


def _pieces(exported: ExportedModel, prefix: int) -> list[Piece]:
    """Returns what is asked, without its log-probabilities."""
    longest = positions(exported.model.config, exported.tokenizer) - _NOTHING
    rows = cast(Any, exported.model.get_input_embeddings()).weight.shape[0]
    pieces: list[Piece] = []
    taken = 0
    for piece in [*_chats(exported), *_texts(exported)]:
        inputs = piece.inputs(prefix)
        if taken >= TOKENS and not piece.begins_itself:
            break
        if len(inputs) > longest or taken + len(inputs) > _MOST_TOKENS or max(inputs) >= rows:
            continue
        pieces.append(piece)
        taken += len(inputs) - 1
    if not pieces:
        raise NoRecord(f"none of the texts fits into the {longest} tokens that the model takes")
    return pieces


def _chats(exported: ExportedModel) -> Iterator[Piece]:
    template = exported.tokenizer.chat_template
    if not template:
        return
    words = PromptTokens(cast(PreTrainedTokenizerFast, exported.tokenizer))
    # A template that writes today's date renders another prompt tomorrow: then its text of today is tokenised.
    dated = "strftime_now" in str(template)
    for name, messages in parity_texts.CHATS.items():
        try:
            ids = words.ids(list(messages))
            asked: dict[str, Any] = {"text": words.text(list(messages))} if dated else {"messages": messages}
        except Unrenderable:
            continue  # Some templates know no system turn.
        if ids:
            yield _piece(name, ids, begins_itself=True, **asked)


def _texts(exported: ExportedModel) -> Iterator[Piece]:
    for name, text in parity_texts.TEXTS.items():
        ids: Any = exported.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if ids:
            yield _piece(name, ids, begins_itself=False, text=text)


def _piece(name: str, ids: list[int], *, begins_itself: bool, **asked: Any) -> Piece:
    unknown = [0.0] * (len(ids) - begins_itself)
    return Piece(name=name, ids=ids, log_probabilities=unknown, begins_itself=begins_itself, **asked)


def _median_difference(one: list[list[float]], other: list[list[float]]) -> float:
    pairs = zip((v for row in one for v in row), (v for row in other for v in row), strict=True)
    found = median(abs(a - b) for a, b in pairs)
    if not math.isfinite(found):
        raise NoRecord("the log-probabilities in bf16 are NaN or infinite")
    return found


def round_weights(model: PreTrainedModel) -> None:
    """Rounds the weights of a model to bf16, and has it compute in that. Its buffers stay: positions are float32."""
    for weight in model.parameters():
        if _is_plain(weight):
            weight.data = weight.data.to(torch.bfloat16)


@contextlib.contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Has a model compute in float32: a block while it runs, the rest for as long as the context lasts."""
    blocks = _blocks(model)
    inside = {id(weight) for block in blocks for weight in block.parameters()}
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    narrow = {id(weight): weight.dtype for weight in model.parameters()}
    hooks = [
        hook
        for block in blocks
        for hook in (
            block.register_forward_pre_hook(lambda module, _inputs: _widen(module.parameters())),
            block.register_forward_hook(lambda module, _inputs, _output: _narrow(module.parameters(), narrow)),
        )
    ]
    _widen(rest)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        _narrow(rest, narrow)


def _blocks(model: PreTrainedModel) -> list[nn.Module]:
    """Returns the blocks of a model: the members of its lists of modules that stand in no other list."""
    found: list[nn.Module] = []
    within: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in within):
            within.append(name)
            found += list(module)
    return found


def _widen(weights: Iterator[nn.Parameter] | list[nn.Parameter]) -> None:
    for weight in weights:
        if _is_plain(weight):
            weight.data = weight.data.float()


def _narrow(weights: Iterator[nn.Parameter] | list[nn.Parameter], dtypes: dict[int, torch.dtype]) -> None:
    for weight in weights:
        if _is_plain(weight):
            weight.data = weight.data.to(dtypes[id(weight)])


def _is_plain(weight: nn.Parameter) -> bool:
    """Whether a weight is a number in itself: those of quantised layers have scales beside them."""
    return weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
