"""Which device of the list a GPU is, by the name that CUDA reports: a wrong one would make a wrong MFU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from slipway_trainer.training import devices


@pytest.mark.parametrize(
    ("reported", "teraflops"),
    [
        ("Tesla T4", 65), ("Tesla V100-SXM2-16GB", 125), ("NVIDIA A10", 125), ("NVIDIA A10G", 70), ("NVIDIA L4", 121),
        ("NVIDIA L40", 181), ("NVIDIA L40S", 362), ("NVIDIA GeForce RTX 4090", 165), ("NVIDIA RTX A6000", 155),
        ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA A100-PCIE-40GB", 312), ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989), ("NVIDIA GH200 480GB", 989), ("NVIDIA B200", 2250),
        ("AMD Instinct MI300X", 1307),
        # Other chips, whose names hold one of these, and slower ones of the same name.
        ("NVIDIA RTX A1000", None), ("NVIDIA T400 4GB", None), ("NVIDIA GB200", None), ("NVIDIA H20", None),
        ("NVIDIA RTX 6000 Ada Generation", None), ("NVIDIA H100 PCIe", None), ("NVIDIA H100 NVL", None),
        ("NVIDIA H200 NVL", None), ("Tesla V100-PCIE-16GB", None), ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
    ],
)  # fmt: skip
def test_a_gpu_is_told_by_whole_words_of_its_name(
    monkeypatch: pytest.MonkeyPatch, reported: str, teraflops: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: reported)
    found = devices.operations_per_second(SimpleNamespace(type="cuda"), "BF16")
    assert found == (None if teraflops is None else teraflops * 1e12)


@pytest.mark.parametrize("name", ["h100", "RTX 4090", "a100-40gb", "L40S", "A10G"])
def test_every_device_is_found_by_its_own_name(name: str) -> None:
    assert devices.named(name).name.upper().replace("-", "") == name.upper().replace("-", "").replace(" ", "")
