"""How well a model predicts text: lm-eval's rolling log-likelihood, and the figures made of it.

Every token of a document is scored exactly once. A document longer than the window is cut into windows of that many
targets; the first one starts with a prefix token (BOS, else EOS), and the last one, which is shorter, looks back
until its input fills the window. Text is tokenised raw: no special token is added, and none is scored that the
text does not hold.

Source: EleutherAI's lm-evaluation-harness 0.4, `lm_eval.utils.get_rolling_token_windows` and
`HFLM.loglikelihood_rolling` with `add_bos_token=False`; tests compare the two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slipway_core.resources.gate_metrics import TEXT_METRICS
from slipway_trainer.bounds.intervals import Array
from slipway_trainer.data import lost_text
from slipway_trainer.data.scored_conversations import MAX_WINDOW as MAX_WINDOW
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.model.exported_model import require_rows

GOOD_BELOW = 20.0
FAIR_BELOW = 50.0
# Tokens per CPU-second of a 5M Llama, one thread: 5.0k at 1,024, 5.1k at 2,048 and 4,096, 3.6k at 8,192.
BATCH_TOKENS = 2048
BATCH_LOGITS = 1 << 26
"""Elements of the logits of one batch, so that a vocabulary of 150k takes 256 MiB and not 2 GiB."""
_LENGTH_FIELDS = ("n_positions", "max_position_embeddings", "n_ctx")
IGNORED = -100


@dataclass(frozen=True)
class Window:
    """One forward pass of the model."""

    inputs: Sequence[int]
    targets: Sequence[int]
    """What the last `len(targets)` positions of `inputs` predict; `IGNORED` where that is not scored."""
    document: int = 0
    """Which document it is of."""

    @property
    def scored(self) -> int:
        """Targets that are scored."""
        return len(self.targets) - self.targets.count(IGNORED)


Compute = Callable[[list[Window]], Iterator[tuple[list[Window], torch.Tensor]]]
"""Computes windows, in whatever order: some at a time, with the negative log-likelihood in nats of their targets that
are scored, one window after the other, float32 [targets]."""


@dataclass(frozen=True)
class ByDocument:
    """What `Score` adds up, of each document: float64 [documents]."""

    nll: Array
    tokens: Array
    bytes: Array
    words: Array
    not_finite: Array
    lost: Array
    """Characters of which the tokenizer makes nothing (`lost_text`)."""
    characters: Array
    """All that could be lost."""


@dataclass(frozen=True)
class Score:
    """Sums over all documents, from which every figure is made."""

    nll: float
    """Negative log-likelihood in nats, summed in float64 over all tokens; not finite when one of them is not."""
    tokens: int
    bytes: int
    """UTF-8 bytes of the raw text."""
    words: int
    """Pieces of the raw text between white space, as lm-eval counts them; few in Chinese."""
    documents: int
    prefix_token: str
    window: int
    """Longest input in tokens."""
    not_finite: int = 0
    """Tokens whose log-probability is NaN or infinite."""
    by_document: ByDocument | None = field(default=None, compare=False)

    @property
    def observed(self) -> dict[str, Observed]:
        """What each metric is made of, document by document."""
        if self.by_document is None or self._unusable() is not None:
            return {}
        each = self.by_document
        return {
            "perplexity": Observed("ExpRatio", each.nll, each.tokens),
            "bits_per_byte": Observed("Ratio", each.nll / math.log(2), each.bytes),
            "word_perplexity": Observed("ExpRatio", each.nll, each.words),
            "byte_perplexity": Observed("ExpRatio", each.nll, each.bytes),
        }

    def of(self, within: np.ndarray) -> Score:
        """Returns the same of some documents alone: bool [documents]."""
        each = self.by_document
        if each is None or within.all():
            return self
        own = ByDocument(**{name: values[within] for name, values in vars(each).items()})
        return replace(
            self,
            nll=float(own.nll.sum()),
            tokens=int(own.tokens.sum()),
            bytes=int(own.bytes.sum()),
            words=int(own.words.sum()),
            documents=int(within.sum()),
            not_finite=int(own.not_finite.sum()),
            by_document=own,
        )

    @property
    def stride(self) -> int:
        """Tokens that each window scores: all of them, since windows do not overlap."""
        return self.window

    @property
    def figures(self) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the metrics that are finite, and for each of the others the reason why there is none.

        perplexity = exp(nll / tokens), word_perplexity = exp(nll / words), byte_perplexity = exp(nll / bytes),
        bits_per_byte = nll / (bytes ln 2).
        """
        if reason := self._unusable():
            return {}, dict.fromkeys(TEXT_METRICS, reason)
        values = {
            "perplexity": _exp(self.nll / self.tokens),
            "bits_per_byte": self.nll / (self.bytes * math.log(2)),
            "word_perplexity": _exp(self.nll / self.words),
            "byte_perplexity": _exp(self.nll / self.bytes),
        }
        missing = {
            name: "is above the largest number; read bits_per_byte instead"
            for name, value in values.items()
            if not math.isfinite(value)
        }
        return {name: value for name, value in values.items() if name not in missing}, missing

    def _unusable(self) -> str | None:
        if self.tokens == 0:
            return f"no token was scored: the {self.documents} documents of evaluation.data hold no text"
        if self.not_finite or not math.isfinite(self.nll):
            return f"the log-probability of {self.not_finite} of {self.tokens} tokens is NaN or infinite"
        each = self.by_document
        why = None if each is None else lost_text.too_much(each.lost.sum(), each.characters.sum())
        return why and f"of the {self.documents} documents of evaluation.data {why}"


def band(perplexity: float | None) -> str | None:
    """Returns good, fair or poor; None when there is no perplexity."""
    if perplexity is None or not math.isfinite(perplexity):
        return None
    return "good" if perplexity < GOOD_BELOW else "fair" if perplexity < FAIR_BELOW else "poor"


def positions(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns how many tokens a model takes, by its configuration or else its tokenizer."""
    for source in (getattr(config, "text_config", None), config):
        for name in _LENGTH_FIELDS:
            if isinstance(length := getattr(source, name, None), int) and length > 0:
                return length
    return tokenizer.model_max_length or MAX_WINDOW


def longest_input(config: Any, tokenizer: PreTrainedTokenizerBase, *, virtual: int = 0) -> int:
    """Returns the longest window in which text is scored: what the model takes behind its virtual tokens, MAX_WINDOW at
    most."""
    return min(positions(config, tokenizer) - virtual, MAX_WINDOW)


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns what the first token of a document is conditioned on. Raises ValueError when there is neither."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise ValueError("the tokenizer has neither a BOS nor an EOS token to start a document with")


def windows(tokens: Sequence[int], prefix: int, window: int) -> Iterator[Window]:
    """Yields the windows of a document; their targets, one after the other, are its tokens."""
    if not tokens:
        return
    first = tokens[:window]
    yield Window([prefix, *first[:-1]], first)
    for start in range(window, len(tokens), window):
        end = min(start + window, len(tokens))
        yield Window(tokens[end - window - 1 : end - 1], tokens[start:end])


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    window: int | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Score:
    """Scores documents. The model must be in evaluation mode; log-softmax is float32, sums are float64.

    Args:
        window: longest input in tokens; what the model takes when None.
        advance: called with the tokens done and the tokens in all, after every batch.

    Raises BadArtifact when the model has no row for a token of the documents.
    """
    window = window or longest_input(model.config, tokenizer)
    return score_by(computed(model), tokenizer, documents, window=window, advance=advance)


def score_by(
    compute: Compute,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    window: int,
    advance: Callable[[int, int], None] | None = None,
) -> Score:
    """Scores documents by whatever computes windows."""
    prefix = prefix_token(tokenizer)
    encoded = _encode(tokenizer, documents)
    pieces = [
        replace(piece, document=number)
        for number, tokens in enumerate(encoded)
        for piece in windows(tokens, prefix, window)
    ]
    found = losses_of(compute, pieces, len(documents), advance)
    lost, characters = lost_text.of_texts(tokenizer, documents, encoded)
    each = ByDocument(
        nll=found.nll,
        tokens=np.array([len(tokens) for tokens in encoded], dtype=np.float64),
        bytes=np.array([len(text.encode()) for text in documents], dtype=np.float64),
        words=np.array([len(re.split(r"\s+", text)) for text in documents], dtype=np.float64),
        not_finite=found.not_finite,
        lost=lost,
        characters=characters,
    )
    return Score(
        nll=found.total,
        tokens=int(each.tokens.sum()),
        bytes=int(each.bytes.sum()),
        words=int(each.words.sum()),
        by_document=each,
        documents=len(documents),
        prefix_token=str(tokenizer.convert_ids_to_tokens(prefix)),
        window=window,
        not_finite=int(found.not_finite.sum()),
    )


def computed(model: PreTrainedModel) -> Compute:
    """Returns what computes windows with a model in this process.

    It raises BadArtifact when the model has no row for a token of theirs.
    """

    @torch.inference_mode()
    def compute(pieces: list[Window]) -> Iterator[tuple[list[Window], torch.Tensor]]:
        require_rows(model, max((max(*piece.inputs, *piece.targets) for piece in pieces), default=0))
        for batch in batches(pieces, batch_tokens(model.config)):
            yield batch, _losses(model, batch)

    return compute


@dataclass(frozen=True)
class Losses:
    total: float
    """Nats, summed in float64 in the order in which they were computed."""
    nll: Array
    """float64 [documents]."""
    not_finite: Array
    """float64 [documents], tokens whose log-probability is NaN or infinite."""


@torch.inference_mode()
def losses_of(
    compute: Compute,
    pieces: list[Window],
    documents: int,
    advance: Callable[[int, int], None] | None = None,
) -> Losses:
    """Returns the negative log-likelihood of the targets of each document.

    Args:
        documents: how many there are; each piece says of which one it is.
        advance: called with the targets done and those in all, after every batch.
    """
    every = sum(piece.scored for piece in pieces)
    nll, not_finite = np.zeros(documents), np.zeros(documents)
    total, done = 0.0, 0
    for batch, losses in compute(pieces):
        total += float(losses.sum(dtype=torch.float64))
        owners = [piece.document for piece in batch]
        parts = losses.double().cpu().split([piece.scored for piece in batch])
        np.add.at(nll, owners, [float(part.sum()) for part in parts])
        np.add.at(not_finite, owners, [float((~part.isfinite()).sum()) for part in parts])
        done += losses.numel()
        if advance:
            advance(done, every)
    return Losses(total, nll, not_finite)


def _encode(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str]) -> list[list[int]]:
    if not documents:
        return []
    encoded = tokenizer(list(documents), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return encoded["input_ids"]  # pyright: ignore[reportReturnType]


def batch_tokens(config: Any) -> int:
    """Returns how many tokens are computed together."""
    vocabulary = getattr(config.get_text_config(), "vocab_size", None) or 1
    return max(1, min(BATCH_TOKENS, BATCH_LOGITS // vocabulary))


def batches(pieces: list[Window], budget: int) -> Iterator[list[Window]]:
    """Yields windows of similar length, longest first, in rectangles of at most `budget` tokens (or one row)."""
    batch: list[Window] = []
    for piece in sorted(pieces, key=lambda piece: -len(piece.inputs)):
        if batch and (len(batch) + 1) * len(batch[0].inputs) > budget:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _losses(model: PreTrainedModel, batch: list[Window]) -> torch.Tensor:
    """Returns the negative log-likelihood of every target, float32 [targets of the batch]."""
    shape = (len(batch), len(batch[0].inputs))
    inputs = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED, dtype=torch.long)
    for row, piece in enumerate(batch):
        length = len(piece.inputs)
        inputs[row, :length] = torch.tensor(piece.inputs)
        targets[row, length - len(piece.targets) : length] = torch.tensor(piece.targets)
    # Padding stands at the right and attention is causal: no scored position sees it, so no mask is needed.
    logits = model(input_ids=inputs.to(model.device), use_cache=False).logits.flatten(0, 1)
    scored = (targets.flatten() != IGNORED).nonzero()[:, 0].to(logits.device)
    wanted = targets.flatten().to(logits.device)
    # In parts: the log-softmax of a long window over a large vocabulary would need the memory of its logits thrice.
    parts = scored.split(max(1, BATCH_LOGITS // logits.shape[-1]))
    return torch.cat([functional.cross_entropy(logits[part].float(), wanted[part], reduction="none") for part in parts])


def _exp(exponent: float) -> float:
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf
