"""The device on which a plan is thought to run: one that is named, or what this machine has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from slipway_host.limits import available_memory
from slipway_trainer.step.errors import BadConfig

_GIB = 1 << 30
Half = Literal["BF16", "FP16"]


@dataclass(frozen=True)
class Device:
    name: str
    kind: str
    """cpu or cuda."""
    memory: int
    """Bytes that a training may use: of a GPU without what its driver keeps."""
    flops: float | None
    """Dense operations a second in half precision, as the maker states them; None where they are not known."""
    half: Half = "BF16"
    """The half precision that it has."""


def _gpu(name: str, gib: float, teraflops: float, half: Half = "BF16") -> Device:
    return Device(name, "cuda", int(gib * _GIB), teraflops * 1e12, half)


# GiB as CUDA reports them, and TFLOP/s of dense matrices without sparsity, by the data sheets.
_KNOWN = (
    _gpu("T4", 14.5, 65, "FP16"),
    _gpu("V100", 31.5, 125, "FP16"),
    _gpu("A10", 22, 125),
    _gpu("A10G", 22, 70),
    _gpu("L4", 22, 121),
    _gpu("RTX3090", 23.5, 71),
    _gpu("RTX4090", 23.5, 165),
    _gpu("RTX5090", 31.3, 209),
    _gpu("A6000", 47.4, 155),
    _gpu("L40", 44.4, 181),
    _gpu("L40S", 44.4, 362),
    _gpu("A100-40GB", 39.4, 312),
    _gpu("A100", 79.2, 312),
    _gpu("H100", 79.1, 989),
    _gpu("H200", 139.8, 989),
    _gpu("B200", 178.3, 2250),
    _gpu("MI300X", 191.5, 1307),
)
_SLOWER = {"PCIE", "NVL", "LAPTOP", "MAX", "D"}
"""Words behind the name of a device that say that it is a slower one of that name: but for the A100, whose speed they
do not change."""
_PART = "MIG"
"""The same of a slice of a device."""
_SAME = {"GH200": "H200"}
"""Names of whole modules, by that of their GPU."""


def named(name: str) -> Device:
    """Returns a device by its name; case, spaces and hyphens do not matter. Raises BadConfig that lists the names."""
    wanted = _plain(name)
    if wanted == "CPU":
        return _this_machine()
    found = next((device for device in _KNOWN if _plain(device.name) == wanted), None)
    if found is None:
        raise BadConfig(f"--device {name}: is not known. These are: CPU, {', '.join(device.name for device in _KNOWN)}")
    return found


def here() -> Device:
    """Returns the first GPU of this machine; its CPU where it has none."""
    if not may_have_gpu():
        return _this_machine()
    import torch

    if not torch.cuda.is_available():
        return _this_machine()
    properties = torch.cuda.get_device_properties(0)
    known = _known(properties.name)
    half: Half = "BF16" if torch.cuda.is_bf16_supported(including_emulation=False) else "FP16"
    return Device(properties.name, "cuda", torch.cuda.mem_get_info()[0], known.flops if known else None, half)


def operations_per_second(device: Any, precision: str) -> float | None:
    """Returns the dense operations a second that the maker states of a GPU of this machine; None where they are not
    known, as of CPUs, and of float32, which a GPU may compute in more than one way.

    Args:
        device: a torch.device.
    """
    if device.type != "cuda" or precision == "FP32":
        return None
    import torch

    known = _known(torch.cuda.get_device_name(device))
    return known.flops if known else None


def _known(reported: str) -> Device | None:
    """Returns the device of a name as CUDA reports it: NVIDIA A100-SXM4-80GB. Whole words count: an RTX A1000 is no
    A100, and a T400 no T4."""
    words = [_SAME.get(word, word) for word in re.split(r"[\s_-]+", reported.upper())]
    for device in _KNOWN:
        name = _plain(device.name)
        for start, end in combinations(range(len(words) + 1), 2):
            if "".join(words[start:end]) == name:
                behind = {*words[end:]}
                slower = _PART in behind or (_SLOWER & behind and name != "A100")
                return None if slower else device
    return None


def may_have_gpu() -> bool:
    """Returns whether a driver of NVIDIA, of AMD or of Windows beneath shows a device: asking torch takes seconds."""
    return any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def _this_machine() -> Device:
    return Device("the CPU of this machine", "cpu", available_memory(), None)


def _plain(name: str) -> str:
    return "".join(name.upper().split()).replace("-", "").replace("_", "")
