"""The quantisation of an export: what is asked of the model in memory, and what becomes of its folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.model import exported_model, logit_check, merge_drift, quantized_layers
from slipway_trainer.quantization import scheme, write
from slipway_trainer.step.errors import BadArtifact, BadExport
from slipway_trainer.step.progress import Say


def prepare(
    plan: Plan, workspace: Workspace, model: PreTrainedModel
) -> Callable[[Path, torch.dtype, Say], dict[str, Any]]:
    """Returns what quantises the model once it is written, and no longer in memory.

    Raises BadConfig for a model whose layers do not have this format.
    """
    wanted = plan.export.quantization
    assert wanted != "None"
    names, left = quantized_layers.of_model(model, wanted), quantized_layers.left_as_is(model)
    tokens = merge_drift.learned_tokens(plan, workspace) if plan.stages else None
    before = logit_check.sample_logits(model, tokens)

    def quantize(folder: Path, dtype: torch.dtype, say: Say) -> dict[str, Any]:
        """Raises BadExport when the layers are not stored by their names, or what was written cannot be read back."""
        say(f"quantising {len(names)} linear layers to {wanted}")
        plain = _bytes(folder)
        write.quantize_folder(folder, wanted, names, left)
        try:
            # As it is judged: with what goes into a layer rounded too, where the format says so.
            rounded = exported_model.load(folder, dtype=dtype, trust_remote_code=plan.model.trust_remote_code)
        except BadArtifact as error:
            raise BadExport(f"what was written cannot be loaded: {error}") from None
        drift = divergence(before, logit_check.sample_logits(rounded.model, tokens))
        say(
            f"{wanted}: {_bytes(folder) / 2**20:,.1f} MiB of weights instead of {plain / 2**20:,.1f}; its predictions "
            f"{'behind random tokens' if tokens is None else 'of training data'} are {drift:.3g} nats a token away "
            "from those before (Kullback-Leibler)"
        )
        return {
            "method": wanted,
            "format": scheme.SCHEMES[wanted].format,
            "layers": len(names),
            "left_as_is": left,
            "bytes": {"before": plain, "after": _bytes(folder)},
            "divergence": round(drift, 6) if math.isfinite(drift) else None,
        }

    return quantize


def divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    """Returns the Kullback-Leibler divergence of what a quantised model predicts from what it did before, in nats a
    token, of the logits of both, float32 [rows, length, vocabulary]. NaN where one of them is none.

    Source: Kullback and Leibler 1951, doi:10.1214/aoms/1177729694.
    """
    first, second = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return float((first.exp() * (first - second)).sum(-1).mean())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
