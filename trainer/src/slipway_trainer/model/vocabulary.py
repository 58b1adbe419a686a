"""The rows of a model's vocabulary, made as many as the tokenizer has ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slipway_trainer.model.pieces import shape_of
from slipway_trainer.model.scratch_shape import rounded
from slipway_trainer.tokens.tokenizer import id_count


def fit_vocabulary(model: PreTrainedModel, words: PreTrainedTokenizerBase) -> int:
    """Makes room for tokens that the run's tokenizer has and the model has not, such as those of a chat template.

    A new row is the mean of the old ones: every process and every attempt makes the same. Returns how many rows there
    were.
    """
    old = rows_of(model.get_input_embeddings()).shape[0]
    wanted = id_count(words)
    if wanted <= old:
        return old
    layers: list[nn.Module] = [model.get_input_embeddings()]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not layers[0].weight:
        layers.append(output)
    means = [rows_of(layer).detach().float().mean(0) for layer in layers]
    model.resize_token_embeddings(rounded(wanted), mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()][: len(layers)]
    with torch.no_grad():
        for layer, mean in zip(layers, means, strict=True):
            rows_of(layer)[old:] = mean.to(rows_of(layer).dtype)
    return old


def start_rows(model: PreTrainedModel, tokens: list[int]) -> None:
    """Gives tokens that are new the mean of the other rows, where the model keeps rows in reserve for them: as
    `fit_vocabulary` does where it does not."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    with torch.no_grad():
        for weight in {id(rows_of(layer)): rows_of(layer) for layer in layers if layer is not None}.values():
            new = torch.zeros(weight.shape[0], dtype=torch.bool)
            new[[token for token in tokens if token < weight.shape[0]]] = True
            weight[new] = weight.detach()[~new].float().mean(0).to(weight.dtype)


def size(model: Any) -> int:
    """Returns how many rows the embedding of a model has, whole or in pieces."""
    return shape_of(model.get_input_embeddings().weight)[0]


def rows_of(layer: nn.Module) -> torch.Tensor:
    """Returns the weight of an embedding or an output layer: [vocabulary, hidden]."""
    return layer.get_parameter("weight")
