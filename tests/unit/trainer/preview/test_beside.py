"""What needs torch runs in a process of its own, and nothing waits for one that is not needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.unit.trainer.preview.test_plan_memory import BASE, plan_of

from slipway_trainer.preview import beside, main


def test_calls_run_here_until_torch_is_needed_and_then_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_import", os.getpid)  # That takes seconds.
    with beside.Beside() as calls:
        assert calls.result(calls.start(os.getpid)) == os.getpid()
        calls.import_torch()
        first = calls.result(calls.start(os.getpid))
        calls.import_torch()
        assert calls.result(calls.start(os.getpid)) == first != os.getpid()
    with beside.Beside(apart=False) as calls:
        calls.import_torch()
        assert calls.result(calls.start(os.getpid)) == os.getpid()


def test_torch_is_imported_first_where_a_base_model_that_is_here_needs_it(tmp_path: Path) -> None:
    here, elsewhere = {"from": f"file://{tmp_path}"}, {"from": "hf://org/name"}
    for family, needed in (("llama", False), ("gpt2", True)):
        (tmp_path / "config.json").write_text(json.dumps(BASE | {"model_type": family}), encoding="utf-8")
        assert main._needs_torch(plan_of(here, adapter={"method": "LoRA"})) == needed
    (tmp_path / "config.json").unlink()
    for model in (here, elsewhere):  # Of which nothing is known yet.
        assert not main._needs_torch(plan_of(model))
