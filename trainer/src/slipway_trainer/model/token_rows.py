"""Rows of the vocabulary that are trained beside an adapter: those of tokens that the base never learned.

An adapter freezes the embedding and the output layer, unless it is told to train them whole. A token that was added for
a chat template, or that a base model keeps in reserve, would stay at a row that says nothing, and an answer that ends
with it would never end. So such rows get something of their own that is added to them, and is merged with the adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slipway_trainer.model.pieces import shape_of
from slipway_trainer.model.vocabulary import rows_of
from slipway_trainer.tokens import tokenizer

FILE = "token_rows.safetensors"
"""In the adapter's folder, where the stage has such rows."""
NAME = "token_rows"
_TINY = 0.01
"""Share of the usual length of a row below which one was never trained."""
_COLUMNS = 8
"""Of a row that are compared with those of the others."""
_CHUNK = 1 << 24


class TokenRows(nn.Module):
    """What is added to some rows of the embedding and of the output layer; one for both where they are tied, and none
    for one that is trained whole."""

    place: torch.Tensor
    """int64 [vocabulary]: the row of each token among these, or one after the last."""
    columns: torch.Tensor
    """int64 [rows]: the tokens."""

    def __init__(
        self, ids: list[int], like: torch.Tensor, *, tied: bool, input: bool = True, output: bool = True
    ) -> None:
        super().__init__()

        def zeros() -> nn.Parameter:
            return nn.Parameter(torch.zeros(len(ids), shape_of(like)[1], dtype=like.dtype, device=like.device))

        self.input = zeros() if input else None
        self.output = zeros() if output and not tied else None
        self._tied = tied
        self.ids = ids
        place = torch.full((shape_of(like)[0],), len(ids), device=like.device)
        place[ids] = torch.arange(len(ids), device=like.device)
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("columns", torch.tensor(ids, device=like.device), persistent=False)

    def forward(self, given: torch.Tensor, computed: torch.Tensor, *, scale: Any = None) -> torch.Tensor:
        """Returns what a layer has computed of what it was given, tokens or hidden states, with these rows added.

        Both go through here: under ZeRO-3 weights are there only while the module that has them is called.
        """
        if not given.is_floating_point():
            assert self.input is not None
            added = functional.embedding(self.place[given], functional.pad(self.input, (0, 0, 0, 1)))
            return computed + (added if scale is None else added * scale).to(computed.dtype)
        assert self.of_output is not None
        return computed.index_add_(-1, self.columns, functional.linear(given, self.of_output.to(given.dtype)))

    @property
    def of_output(self) -> nn.Parameter | None:
        """The rows of the output layer: [rows, hidden]; None where that is trained whole."""
        return self.input if self._tied else self.output


def untrained(
    model: PreTrainedModel,
    words: PreTrainedTokenizerBase,
    tokens: np.ndarray,
    *,
    known: int,
    added: Sequence[int] = (),
) -> list[int]:
    """Returns the special and new tokens of some data whose rows were never trained, sorted.

    A row was not, if it is new, next to nothing, or like another one: rows that were made together and never trained
    are alike.

    Args:
        tokens: of the data of a stage.
        known: rows that the model had before it was made to fit the tokenizer.
        added: tokens that are new by the plan, whatever lies in their rows.
    """
    asked_of = {*words.added_tokens_decoder, *tokenizer.end_ids(words), *added}  # type: ignore[attr-defined]
    rows = rows_of(model.get_input_embeddings()).shape[0]
    asked = [token for token in _used(tokens, rows) if token >= known or token in asked_of]
    if not asked:
        return []
    new = {token for token in asked if token >= known or token in added}
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = {id(rows_of(layer)): rows_of(layer) for layer in layers if layer is not None}
    return sorted(new.union(*(_blank(weight, asked) for weight in weights.values())))


def attach(adapted: Any, ids: list[int]) -> None:
    """Gives a model with an adapter rows of its own for these tokens, where it does not train all rows; they change
    nothing yet."""
    model = adapted.get_base_model()
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    frozen = {layer: not layer.weight.requires_grad for layer in (embedding, output)}
    if not any(frozen.values()):
        return
    tied = output.weight is embedding.weight
    rows = TokenRows(ids, embedding.weight, input=frozen[embedding], output=frozen[output], tied=tied)
    setattr(model, NAME, rows)
    if frozen[embedding]:
        # Some embeddings multiply what they look up (Gemma).
        embedding.register_forward_hook(
            lambda layer, given, found: rows(given[0], found, scale=getattr(layer, "embed_scale", None))
        )
    if frozen[output]:
        computed = output.forward
        # Not a hook: who has the layer's forward has all of it.
        output.forward = lambda hidden: rows(hidden, computed(hidden))


def of_model(model: Any) -> TokenRows | None:
    """Returns the rows of a model with an adapter; None where it has none."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(base, NAME, None)


def save(adapted: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Writes the rows beside the adapter, if the model has any.

    Args:
        weights: the trained ones of the model, by their name in it.
    """
    rows = of_model(adapted)
    if rows is None:
        return
    found = {
        name: weights[full].contiguous()
        for full in weights
        for name in ("input", "output")
        if full.endswith(f"{NAME}.{name}")
    }
    save_file(found | {"ids": torch.tensor(rows.ids)}, folder / FILE)


def merge(model: PreTrainedModel, folder: Path) -> None:
    """Adds the rows that lie beside an adapter to those of the model, in float32 and rounded once."""
    if not (folder / FILE).is_file():
        return
    saved = load_file(folder / FILE)
    layers = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    with torch.no_grad():
        for name in ("input", "output"):
            if name in saved:
                weight = rows_of(layers[name])
                weight[saved["ids"]] = (weight[saved["ids"]].float() + saved[name].float()).to(weight.dtype)


def _used(tokens: np.ndarray, rows: int) -> list[int]:
    """Returns which tokens there are, without a copy of all of the data."""
    counts = np.zeros(rows, np.int64)
    for start in range(0, len(tokens), _CHUNK):
        counts += np.bincount(tokens[start : start + _CHUNK], minlength=rows)[:rows]
    return np.flatnonzero(counts).tolist()


def _blank(weight: torch.Tensor, asked: list[int]) -> set[int]:
    """Returns which of these rows are next to nothing, or like another row."""
    with torch.no_grad():
        lengths = torch.linalg.vector_norm(weight.detach().float(), dim=1)
        usual = lengths.median().clamp_min(1e-30)
        # Rows that somebody made as the mean of the others and a little noise are alike, too.
        start = (weight.detach()[:, :_COLUMNS].float() * (weight.shape[1] ** 0.5 / usual)).round(decimals=2)
        _, place, count = torch.unique(start, dim=0, return_inverse=True, return_counts=True)
        blank = (lengths < _TINY * usual) | (count[place] > 1)
    return {token for token in asked if blank[token]}
