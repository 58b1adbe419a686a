"""Changes the precision of a model's weights, and of nothing else."""

from __future__ import annotations

import torch
from torch import nn


def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Converts the parameters in place, one at a time; those of 4 bits stay.

    `model.to(dtype)` converts buffers too: the inverse frequencies of rotary embeddings would be rounded to bfloat16,
    and the model in memory would no longer compute what the same weights compute once they are loaded from a file.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
