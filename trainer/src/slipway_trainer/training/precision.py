"""The precision of a stage: what the plan asks for, or the best that the device has."""

from __future__ import annotations

from typing import Literal

import torch

from slipway_core.resources.stage import Stage
from slipway_trainer.step.errors import BadConfig

Precision = Literal["FP32", "BF16", "FP16"]

DTYPES: dict[str, torch.dtype] = {"FP32": torch.float32, "BF16": torch.bfloat16, "FP16": torch.float16}


def of_stage(stage: Stage, device: torch.device) -> Precision:
    """Returns the precision of a stage on this device. Raises BadConfig for fp16 on a CPU, which has no use for it."""
    if stage.precision == "FP16" and device.type == "cpu":
        raise BadConfig(f"stages[{stage.name}].precision: FP16 needs a GPU; use FP32, BF16 or Auto on a CPU")
    if stage.precision != "Auto":
        return stage.precision
    if device.type == "cpu":
        return "FP32"
    return "BF16" if torch.cuda.is_bf16_supported(including_emulation=False) else "FP16"


def reason(stage: Stage, device: str) -> str:
    """Returns why it is that one, for people."""
    return "set in the plan" if stage.precision != "Auto" else f"the best that this {device} has"
