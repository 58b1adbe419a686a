"""Which of the processes of a stage this one is, and how they find each other."""

import subprocess
import sys

import pytest
import torch

from slipway_trainer.training import process_group
from slipway_trainer.training.process_group import Ranks


def test_ranks_are_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert Ranks.from_environment() == Ranks(3, 4, 1, 2)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert Ranks.from_environment() == Ranks()


@pytest.mark.parametrize(
    ("device", "built_for", "built", "used"),
    [
        ("cpu", "cpu", True, True),
        ("cpu", "cpu", False, False),
        ("cuda", "cpu", True, False),
        ("cpu", "cuda", True, False),
    ],
)
def test_the_operator_for_shared_memory_is_used_where_it_was_built_ahead_and_compiled_nowhere(
    device: str, built_for: str, built: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed import git_version_info

    monkeypatch.setattr(git_version_info, "accelerator_name", built_for)
    monkeypatch.setitem(git_version_info.installed_ops, "deepspeed_shm_comm", built)
    assert process_group.built_ahead(torch.device(device)) is used


@pytest.mark.slow
def test_a_rank_does_not_import_the_library_of_a_tracker() -> None:
    """It takes five times as long as DeepSpeed, which imports it where it is there."""
    program = """
import sys
from slipway_trainer.training import process_group
process_group.connect(process_group.Ranks())
import deepspeed
assert "mlflow" not in sys.modules
import mlflow
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
