"""Where the weights of a model go that is loaded to be judged: on one device, or over several when it is too large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from slipway_host.limits import available_memory
from slipway_trainer.step.errors import BadConfig

ROOM = 0.85
"""Share of the free memory that weights may take; the rest is for activations, keys and values."""

Place = int | str
"""Number of a GPU, or cpu."""


def of_folder(folder: Path, device: torch.device, *, trust_remote_code: bool = False) -> dict[str, Place] | None:
    """Returns which device each part of a stored model goes to, in the precision of its files; None when all of it goes
    to `device`.

    Raises BadConfig when GPUs and host together are too small.
    """
    if device.type != "cuda":
        return None
    needed = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = [torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())]
    rooms = memory(needed, free, available_memory())
    if rooms is None:
        return None
    return spread(_without_weights(folder, trust_remote_code), rooms)


def memory(needed: int, free: Sequence[int], host: int) -> dict[Place, int] | None:
    """Returns how many bytes of a model each device may have; None when the first one has room for all of it.

    The GPUs share evenly, and the host keeps what is left: that is slow, since it goes to a GPU whenever it is used.

    Args:
        needed: bytes of the weights.
        free: bytes of each GPU.
        host: free bytes of the host.

    Raises BadConfig when all of them together are too small.
    """
    rooms = [int(ROOM * own) for own in free]
    if needed <= rooms[0]:
        return None
    beside = int(ROOM * host)
    if needed > sum(rooms) + beside:
        raise BadConfig(
            f"the model's weights take {_gib(needed)}, and {len(free)} GPU(s) with {_gib(sum(free))} and the host with "
            f"{_gib(host)} of free memory cannot hold them. Give the step evaluate more or larger GPUs "
            "(compute.resources), or more memory"
        )
    return {**dict(enumerate(rooms)), "cpu": beside}


def spread(model: Any, rooms: dict[Place, int]) -> dict[str, Place]:
    """Returns the device of each part of a model, blocks whole and in their order.

    Args:
        model: without weights, in the precision that it will have.
        rooms: bytes that each device may have, as `memory` returns them.

    Raises BadConfig when a block fits nowhere.
    """
    from accelerate import infer_auto_device_map

    blocks: list[str] = list(getattr(model, "_no_split_modules", None) or ())
    gpus = [place for place in rooms if place != "cpu"]
    needed = sum(weight.numel() * weight.dtype.itemsize for weight in model.parameters())
    # A little more than an even share: what is filled up to the brim leaves nothing for the last block.
    even = int(needed / max(1, len(gpus)) * 1.15)
    for most in ({place: min(room, even) if place != "cpu" else 0 for place, room in rooms.items()}, rooms):
        found: dict[str, Any] = infer_auto_device_map(model, max_memory=dict(most), no_split_module_classes=blocks)
        if "disk" not in found.values() and (most is rooms or "cpu" not in found.values()):
            return found
    raise BadConfig(
        f"a block of {model.config.model_type} fits on no GPU and not into the host's memory beside what is there "
        "already. Give the step evaluate larger GPUs or more memory (compute.resources)"
    )


def _without_weights(folder: Path, trust_remote_code: bool) -> Any:
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code, local_files_only=True)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    model.tie_weights()
    return model


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
