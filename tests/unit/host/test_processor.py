"""What a processor can compute with is what the kernel says of it."""

import platform
from pathlib import Path

import pytest
import torch

from slipway_host.processor import flags


def test_the_flags_are_those_of_the_first_processor(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    text = "processor\t: 0\nvendor_id\t: x\nflags\t\t: fpu avx2 avx512f\nmodel name\t: x\n\nprocessor\t: 1\n"
    (tmp_path / "proc" / "cpuinfo").write_text(text)
    assert flags(tmp_path) == {"fpu", "avx2", "avx512f"}


def test_of_another_kind_of_processor_nothing_is_known(tmp_path: Path) -> None:
    assert flags(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\n")
    assert flags(tmp_path) is None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="of x86 alone")
def test_torch_sees_the_same_on_this_machine() -> None:
    found = flags()
    assert found is not None
    assert ("avx512f" in found) == torch.cpu._is_avx512_supported()
