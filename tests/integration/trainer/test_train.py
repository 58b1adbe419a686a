"""A stage as one rank trains it, with real data, a real model and DeepSpeed's engine."""

from __future__ import annotations

import errno
import json
import math
import shutil
import threading
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.trainer.training import PRETRAIN, Training, make, sentences
from transformers import FalconConfig, FalconForCausalLM

from slipway_core.protocol import exit_codes
from slipway_trainer.batches import order
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import stage_model
from slipway_trainer.model.context_length import check_length
from slipway_trainer.step.errors import BadConfig, BadData, Diverged, Interrupted, NoSpace, OutOfMemory, Superseded
from slipway_trainer.step.fence import Fence
from slipway_trainer.tokens import tokenizer
from slipway_trainer.tokens.chat_templates import TURN_END, TURN_START
from slipway_trainer.training import loop, train
from slipway_trainer.training.checkpoints import checkpoint_files
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState

VALIDATED = {"data": {"validation": {"fraction": 0.2, "everySteps": 2}}}
CHECKPOINTS = {"checkpoints": {"everySteps": 2, "keep": 2}}
CHAT: dict[str, Any] = {"name": "sft", "objective": "Chat", "maxLength": 64, "steps": 3, "batch": {"sequences": 2}}


TURNS = [TURN_START, TURN_END]


class Crash(Exception):
    """Stands for anything that ends a process at once."""


def crash(run: Training, *, at: int, attempt: int = 1, stage: str = "pretrain", seconds: float | None = None) -> None:
    """Trains until a step is about to be taken, and ends there.

    Args:
        seconds: for which each step waits until a checkpoint is on the disk; as long as it takes when None.
    """
    taken = loop.Training._step

    def crashing(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        if state.step + 1 == at:
            raise Crash
        return taken(self, window, targets, rate, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Training, "_step", crashing)
        patch.setattr(Checkpoints, "written", property(lambda self: waited(self, seconds)))
        with pytest.raises(Crash):
            run.train(stage, attempt=attempt)


def waited(checkpoints: Checkpoints, seconds: float | None) -> bool:
    writing = checkpoints._writing
    return writing is None or bool(wait([writing.entries], seconds).done)


def read_late(patch: pytest.MonkeyPatch, late: bool) -> None:
    """Has the figures of a step read after the next one began, as on a GPU."""
    patch.setattr("slipway_trainer.training.stage.Training", lambda **given: loop.Training(**(given | {"late": late})))


def step_names(run: Training) -> list[str]:
    return sorted(path.name for path in run.folder().checkpoints.iterdir() if not path.name.startswith("."))


def weights(run: Training, stage: str = "pretrain") -> dict[str, torch.Tensor]:
    # Copies: the file is mapped, and tests damage it.
    saved = load_file(run.folder(stage).model / "model.safetensors")
    return {name: weight.clone() for name, weight in saved.items()}


def test_a_stage_learns_and_leaves_a_model_that_loads(tmp_path: Path) -> None:
    run = make(tmp_path, PRETRAIN | {"steps": 30})
    result = run.train()
    losses = run.losses()
    assert losses[-1] < losses[0] - 1
    assert result.metrics["loss"] == losses[-1]
    assert result.metrics["tokens"] == run.metrics()[-1]["tokens"]
    # Tied weights are there once.
    assert "lm_head.weight" not in weights(run)
    model = stage_model.load_final(run.plan, run.workspace)
    assert torch.isfinite(model(input_ids=torch.tensor([[0, 5, 6]])).logits).all()


def test_the_first_loss_is_the_models_own_on_the_documents_one_by_one(tmp_path: Path) -> None:
    run = make(tmp_path, PRETRAIN | {"steps": 1, "batch": {"sequences": 64}, "optimizer": {"learningRate": 1e-9}})
    run.train()
    model = stage_model.load_composed(run.plan, run.workspace, None, seed=0).eval()
    shards = Shards.open(run.folder().data("train"))
    bins = order.epoch(shards, seed=0, epoch=0, max_length=32)
    assert len(bins) < 64
    nats = targets = 0.0
    # The step takes 64 rows: the first epoch and the start of the next ones.
    rows = [row for epoch in range(64) for row in _documents(shards, epoch)][:64]
    for document in (d for row in rows for d in row):
        tokens = torch.tensor(shards.document(int(document))[0].astype("int64"))
        with torch.no_grad():
            logits = model(input_ids=tokens[None]).logits[0]
        nats += float(torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="sum"))
        targets += len(tokens) - 1
    assert run.losses()[0] == pytest.approx(nats / targets, abs=1e-5)


def _documents(shards: Shards, epoch: int) -> list[Any]:
    bins = order.epoch(shards, seed=0, epoch=epoch, max_length=32)
    return [bins.row(row) for row in range(len(bins))]


@pytest.mark.parametrize("micro", [1, 3])
def test_the_micro_batch_changes_nothing_that_is_learned(tmp_path: Path, micro: int) -> None:
    whole = make(tmp_path / "whole")
    parts = make(tmp_path / "parts", PRETRAIN | {"batch": {"sequences": 4, "microSequences": micro}})
    whole.train()
    parts.train()
    assert parts.losses() == pytest.approx(whole.losses(), abs=1e-5)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_stages_train_the_same(tmp_path: Path, zero: int) -> None:
    plain = make(tmp_path / "plain")
    sharded = make(tmp_path / "sharded", PRETRAIN | {"memory": {"zeroStage": zero}})
    plain.train()
    sharded.train()
    assert sharded.losses() == pytest.approx(plain.losses(), abs=1e-5)
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weights(sharded)[name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("zero", ["Auto", 0, 2])
def test_bf16_learns_what_fp32_learns(tmp_path: Path, zero: Any) -> None:
    plain = make(tmp_path / "plain")
    half = make(tmp_path / "half", PRETRAIN | {"precision": "BF16", "memory": {"zeroStage": zero}})
    plain.train()
    half.train()
    assert half.losses() == pytest.approx(plain.losses(), abs=0.02)
    assert weights(half)["model.embed_tokens.weight"].dtype == torch.bfloat16


def test_gradient_checkpointing_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain")
    twice = make(tmp_path / "twice", PRETRAIN | {"memory": {"gradientCheckpointing": "Enabled"}})
    plain.train()
    twice.train()
    assert twice.losses() == pytest.approx(plain.losses(), abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_compiled_blocks_learn_what_others_do_under_the_same_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make(tmp_path / "plain", PRETRAIN | {"steps": 4})
    plain.train()
    compiled = make(tmp_path / "compiled", PRETRAIN | {"steps": 4, "compile": "Enabled"})
    capsys.readouterr()
    compiled.train()
    assert "blocks compiled: set in the plan" in capsys.readouterr().out
    assert json.loads(compiled.folder().resolved.read_text())["compile"] is True
    assert compiled.losses() == pytest.approx(plain.losses(), abs=1e-5)
    kept, learned = weights(plain), weights(compiled)
    assert learned.keys() == kept.keys()
    for name, weight in learned.items():
        torch.testing.assert_close(weight, kept[name], atol=1e-4, rtol=1e-4)


def test_fp16_is_refused_on_a_cpu(tmp_path: Path) -> None:
    run = make(tmp_path, PRETRAIN | {"precision": "FP16"})
    with pytest.raises(BadConfig, match=r"stages\[pretrain\].precision: FP16 needs a GPU"):
        run.train()


@pytest.fixture
def fp16_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow and refused to users, but the same code as on a GPU."""
    from deepspeed.accelerator import get_accelerator

    accelerator = type(get_accelerator())
    monkeypatch.setattr(accelerator, "is_fp16_supported", lambda _: True)
    monkeypatch.setattr(accelerator, "supported_dtypes", lambda _: [torch.float32, torch.bfloat16, torch.float16])
    monkeypatch.setattr("slipway_trainer.training.precision.of_stage", lambda *_: "FP16")


@pytest.mark.usefixtures("fp16_on_a_cpu")
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_fp16_learns_what_fp32_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero: int) -> None:
    half = make(tmp_path / "half", PRETRAIN | {"memory": {"zeroStage": zero}})
    half.train()
    monkeypatch.undo()
    plain = make(tmp_path / "plain")
    plain.train()
    assert half.losses() == pytest.approx(plain.losses(), abs=0.02)


@pytest.mark.usefixtures("fp16_on_a_cpu")
def test_fp16_leaves_out_steps_that_overflow_and_goes_on_with_its_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_trainer.training.deepspeed_engine.FIRST_SCALE_POWER", 24)
    stage = PRETRAIN | {"steps": 30}
    undisturbed = make(tmp_path / "undisturbed", stage, **CHECKPOINTS)
    undisturbed.train()
    norms = [row["grad_norm"] for row in undisturbed.metrics()]
    assert norms[0] is None or norms[0] == 0
    assert norms[-1] > 0
    assert undisturbed.losses()[-1] < undisturbed.losses()[0] - 0.5
    run = make(tmp_path / "killed", stage, **CHECKPOINTS)
    crash(run, at=6)
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_resume_is_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero: int) -> None:
    stage = PRETRAIN | VALIDATED | {"steps": 9, "memory": {"zeroStage": zero}}
    undisturbed = make(tmp_path / "undisturbed", stage, **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "killed", stage, **CHECKPOINTS)
    for attempt, step in ((1, 2), (2, 4), (3, 8)):
        crash(run, at=step, attempt=attempt)
    run.train(attempt=4)
    assert run.losses() == undisturbed.losses()
    validated = [row["validation_loss"] for row in run.metrics()]
    assert validated == [row["validation_loss"] for row in undisturbed.metrics()]
    assert run.metrics()[-1]["tokens"] == undisturbed.metrics()[-1]["tokens"]
    for name, weight in weights(undisturbed).items():
        assert torch.equal(weights(run)[name], weight), name


@pytest.mark.parametrize("end", [{"steps": 6}, {"steps": None, "tokens": 600}])
def test_D_a_mixture_goes_on_where_it_was_with_the_same_rows(tmp_path: Path, end: dict[str, Any]) -> None:
    uris = []
    for name, count in (("large", 40), ("small", 3)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": f"{name} {text}"}) + "\n" for text in sentences(count)))
        uris.append(f"file://{path}")
    train = [{"uri": uri, "proportion": share} for uri, share in zip(uris, (0.75, 0.25), strict=True)]
    stage = {name: value for name, value in {**PRETRAIN, **end, "data": {"train": train}}.items() if value is not None}
    whole = make(tmp_path / "whole", stage, **CHECKPOINTS)
    whole.train()
    run = make(tmp_path / "other", stage, **CHECKPOINTS)
    crash(run, at=4)
    run.train(attempt=2)
    assert len(run.losses()) >= 5
    assert run.losses() == whole.losses()


def test_dropout_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = {"adapter": {"method": "LoRA", "rank": 2, "dropout": 0.5}}
    undisturbed = make(tmp_path / "undisturbed", PRETRAIN | adapter, **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "killed", PRETRAIN | adapter, **CHECKPOINTS)
    crash(run, at=4)
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()


@pytest.mark.parametrize("adapter", [{}, {"adapter": {"method": "LoRA", "rank": 2}}])
def test_D_noise_on_embedded_tokens_goes_on_where_it_was(tmp_path: Path, adapter: dict[str, Any]) -> None:
    noisy = PRETRAIN | VALIDATED | adapter | {"neftuneNoiseAlpha": 5.0}
    undisturbed = make(tmp_path / "undisturbed", noisy, **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "killed", noisy, **CHECKPOINTS)
    crash(run, at=4)
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()
    plain = make(tmp_path / "plain", PRETRAIN | VALIDATED | adapter, **CHECKPOINTS)
    plain.train()
    assert plain.losses() != undisturbed.losses()


def test_validation_meets_neither_noise_nor_smoothed_targets(tmp_path: Path) -> None:
    """At a rate at which nothing is learned."""
    still = PRETRAIN | VALIDATED | {"steps": 2, "optimizer": {"learningRate": 1e-12}}
    plain = make(tmp_path / "plain", still)
    other = make(tmp_path / "other", still | {"neftuneNoiseAlpha": 100.0, "labelSmoothing": 0.5})
    plain.train()
    other.train()
    assert [row["validation_loss"] for row in other.metrics()] == [row["validation_loss"] for row in plain.metrics()]
    assert other.losses() != pytest.approx(plain.losses(), abs=1e-3)


def test_every_step_says_how_fast_it_goes_and_what_its_time_goes_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path, PRETRAIN | VALIDATED, **CHECKPOINTS)
    run.train()
    parts = ("compute", "data", "validation", "checkpoint")
    rows = run.metrics()
    for row in rows:
        assert sum(row[f"{part}_share"] for part in parts) == pytest.approx(1)
        assert row["compute_share"] > 0
        assert row["tokens_per_second"] > 0
        assert row["peak_memory_bytes"] > 1 << 20
        assert not {"mfu", "communication_share"} & row.keys(), "nobody knows it of one process on a CPU"
    last = rows[-1]
    assert last["validation_share"] > 0
    assert last["checkpoint_share"] > 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "time: " in line]
    assert said.startswith("pretrain: time: ")
    assert "% checkpoint; peak memory " in said


def test_a_finished_stage_is_left_as_it_is(tmp_path: Path) -> None:
    run = make(tmp_path)
    first = train.run(run.plan, run.workspace, stage="pretrain", attempt=1)
    before = (run.folder().model / "model.safetensors").stat().st_mtime_ns
    second = train.run(run.plan, run.workspace, stage="pretrain", attempt=2)
    assert second.metrics == first.metrics
    assert (run.folder().model / "model.safetensors").stat().st_mtime_ns == before


def test_a_damaged_model_is_written_again(tmp_path: Path) -> None:
    run = make(tmp_path)
    train.run(run.plan, run.workspace, stage="pretrain", attempt=1)
    expected = weights(run)
    path = run.folder().model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    train.run(run.plan, run.workspace, stage="pretrain", attempt=2)
    assert all(torch.equal(weights(run)[name], weight) for name, weight in expected.items())


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run = make(tmp_path, PRETRAIN | {"steps": 7}, **CHECKPOINTS)
    run.train()
    assert step_names(run) == ["step-00000006", "step-00000007"]


def test_a_damaged_checkpoint_is_named_and_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = make(tmp_path / "undisturbed", **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "damaged", **CHECKPOINTS)
    crash(run, at=6)
    victim = run.folder().checkpoint(4) / checkpoint_files.WEIGHTS
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    capsys.readouterr()
    run.train(attempt=2)
    told = capsys.readouterr().out
    assert f"{victim}: damaged" in told
    assert "going on from step 2" in told
    assert run.losses() == undisturbed.losses()
    assert "damaged-step-00000004" in step_names(run)


def test_without_a_whole_checkpoint_it_starts_over_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    crash(run, at=4)
    (run.folder().checkpoint(2) / checkpoint_files.STATE).write_text("{}")
    run.train(attempt=2)
    assert "no complete checkpoint is left: starting over" in capsys.readouterr().out
    assert len(run.losses()) == 6


def test_a_checkpoint_that_was_cut_off_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = make(tmp_path / "undisturbed", **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "cut", **CHECKPOINTS)
    written = checkpoint_files.write_text

    def killed_before_the_manifest(path: Path, text: str) -> Any:
        if path.name == checkpoint_files.MANIFEST and json.loads(text)["step"] == 4:
            # A real kill leaves no time to clean up.
            raise KeyboardInterrupt
        return written(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "write_text", killed_before_the_manifest)
        with pytest.raises(KeyboardInterrupt):
            run.train()
    assert step_names(run) == ["step-00000002"]
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()
    assert not list(run.folder().checkpoints.glob(".step-*"))


class SlowDisk:
    """Writes the checkpoint of a step only once the training has come as far as another one."""

    def __init__(self, patch: pytest.MonkeyPatch, *, of: int, until: int) -> None:
        self.steps: list[int] = []
        """Those that were taken before the checkpoint was on the disk."""
        written, taken, far = checkpoint_files.write, loop.Training._step, threading.Event()

        def write(path: Path, value: Any) -> Any:
            if f"{of:08d}" in path.parent.name:
                assert far.wait(60)
            return written(path, value)

        def step(training: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
            if not training.folder_of(of).exists():
                self.steps.append(state.step + 1)
            if state.step + 1 == until:
                far.set()
                if training.checkpoints.writing:
                    wait([training.checkpoints._writing.entries])
            return taken(training, window, targets, rate, state)

        patch.setattr(checkpoint_files, "write", write)
        patch.setattr(loop.Training, "_step", step)
        patch.setattr(loop.Training, "folder_of", lambda t, n: t.checkpoints.folder.checkpoint(n), raising=False)


def test_the_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is what the weights were, although they have changed since."""
    stage = PRETRAIN | {"steps": 9}
    undisturbed = make(tmp_path / "undisturbed", stage, checkpoints={"everySteps": 100})
    undisturbed.train()
    run = make(tmp_path / "run", stage, checkpoints={"everySteps": 3})
    with monkeypatch.context() as patch:
        disk = SlowDisk(patch, of=3, until=5)
        crash(run, at=6, seconds=0)
    assert disk.steps == [1, 2, 3, 4, 5]
    assert step_names(run) == ["step-00000003"]
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()
    for name, weight in weights(undisturbed).items():
        assert torch.equal(weights(run)[name], weight), name


def test_one_checkpoint_is_on_its_way_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, PRETRAIN | {"steps": 6}, checkpoints={"everySteps": 2, "keep": 5})
    begun, writing = Checkpoints.begin, []

    def begin(self: Checkpoints, engine: Any, state: TrainState) -> None:
        writing.append((self.writing, sorted(path.name for path in self.complete())))
        begun(self, engine, state)

    monkeypatch.setattr(Checkpoints, "begin", begin)
    monkeypatch.setattr(Checkpoints, "written", property(lambda _: False))
    run.train()
    steps = [f"step-{step:08d}" for step in (2, 4, 6)]
    assert writing == [(False, []), (False, steps[:1]), (False, steps[:2])]
    assert step_names(run) == steps


@pytest.mark.parametrize("zero", [0, 3])
def test_D_a_kill_while_one_is_written_loses_that_checkpoint_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero: int
) -> None:
    stage = PRETRAIN | {"steps": 7, "memory": {"zeroStage": zero}}
    undisturbed = make(tmp_path / "undisturbed", stage, **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "killed", stage, **CHECKPOINTS)
    written, stopped = checkpoint_files.write, threading.Event()

    def half(path: Path, value: Any) -> Any:
        if "00000004" in path.parent.name:
            path.write_bytes(b"half")
            stopped.wait(60)
            raise OSError(errno.EIO, "the process is gone")
        return written(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "write", half)
        crash(run, at=6, seconds=0.5)
        assert step_names(run) == ["step-00000002"]
        assert list(run.folder().checkpoints.glob(".step-00000004*"))
        stopped.set()
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()
    assert not list(run.folder().checkpoints.glob(".step-*"))


def test_time_says_when_a_checkpoint_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step every 4 minutes and an interval of 10: at the steps that end after 12 and 24, and at the end."""
    run = make(tmp_path, PRETRAIN | {"steps": 7}, checkpoints={"interval": "10m", "keep": 9})
    now = [0.0]
    taken = loop.Training._step

    def step(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        now[0] += 240
        return taken(self, window, targets, rate, state)

    monkeypatch.setattr(loop.Training, "_step", step)
    made = loop.Training
    monkeypatch.setattr("slipway_trainer.training.stage.Training", lambda **given: made(**given, clock=lambda: now[0]))
    run.train()
    # The time is looked at before a step, and the checkpoint is of its end.
    assert step_names(run) == ["step-00000004", "step-00000007"]


def fail_writing(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The disk is full while the checkpoint of a step is written."""
    written = checkpoint_files.write

    def full(path: Path, value: Any) -> Any:
        if f"{step:08d}" in path.parent.name:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return written(path, value)

    monkeypatch.setattr(checkpoint_files, "write", full)


def test_a_full_disk_costs_one_checkpoint_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = make(tmp_path / "undisturbed", **CHECKPOINTS)
    undisturbed.train()
    run = make(tmp_path / "full", **CHECKPOINTS)
    fail_writing(monkeypatch, 4)
    run.train()
    told = capsys.readouterr().out
    assert "WARNING: step 4: the checkpoint could not be written" in told
    assert "No space left on device" in told
    assert run.losses() == undisturbed.losses()
    assert step_names(run) == ["step-00000002", "step-00000006"]
    assert not list(run.folder().checkpoints.glob(".*"))


def test_a_disk_that_is_full_from_the_start_ends_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    fail_writing(monkeypatch, 2)
    with pytest.raises(NoSpace, match="No checkpoint could be written: free space there and start again"):
        run.train()
    assert step_names(run) == []


def test_too_little_space_is_found_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("slipway_trainer.step.disk_space.shutil.disk_usage", lambda _: usage)
    with pytest.raises(NoSpace, match=r"checkpoints take .* MiB and 1 MiB are free"):
        run.train()


def test_a_stale_attempt_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    begun = Checkpoints.begin

    def overtaken(self: Checkpoints, engine: Any, state: TrainState) -> None:
        # That of step 2 is in its place by now, however slow the disk is.
        if state.step == 4:
            Fence(run.workspace.fence("pretrain"), 2).raise_()
        begun(self, engine, state)

    monkeypatch.setattr(Checkpoints, "begin", overtaken)
    with pytest.raises(Superseded, match="attempt 2 has taken over from attempt 1"):
        run.train(attempt=1)
    assert step_names(run) == ["step-00000002"]
    assert not run.folder().done.exists()


def test_a_stale_attempt_whose_checkpoint_is_taken_away_while_it_writes_says_that_it_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    written = checkpoint_files.write

    def overtaken(path: Path, value: Any) -> Any:
        Fence(run.workspace.fence("pretrain"), 2).raise_()
        # A new attempt begins with removing what is half written.
        shutil.rmtree(path.parent)
        return written(path, value)

    monkeypatch.setattr(checkpoint_files, "write", overtaken)
    # It looks by itself only now and then.
    monkeypatch.setattr("slipway_trainer.training.step_report.StepReport._look_at_fence", lambda _: None)
    with pytest.raises(Superseded, match="attempt 2 has taken over from attempt 1"):
        run.train(attempt=1)
    assert step_names(run) == []


def test_figures_that_are_read_late_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a step is told while the next one is computed; on a CPU, where nothing is gained by it, at once."""
    length = PRETRAIN | VALIDATED | {"steps": 9}
    settings = {"checkpoints": {"everySteps": 4, "keep": 2}}
    told = make(tmp_path / "told", length, **settings)
    told.train()
    read_late(monkeypatch, True)
    late = make(tmp_path / "late", length, **settings)
    crash(late, at=7)
    late.train(attempt=2)
    timed = {"seconds", "time", "tokens_per_second", "attempt", "peak_memory_bytes"}
    figures = [
        [{k: v for k, v in row.items() if k not in timed and not k.endswith("_share")} for row in run.metrics()]
        for run in (told, late)
    ]
    assert figures[0] == figures[1]
    assert [row["step"] for row in late.metrics()] == list(range(1, 10))
    for name, weight in weights(told).items():
        assert torch.equal(weights(late)[name], weight), name


@pytest.mark.parametrize("late", [False, True])
def test_a_loss_that_is_not_a_number_ends_the_stage_and_is_never_saved(tmp_path: Path, late: bool) -> None:
    run = make(tmp_path, PRETRAIN | {"steps": 40, "optimizer": {"learningRate": 10, "maxGradNorm": 0}}, **CHECKPOINTS)
    taken = loop.Training._step
    poisoned = pytest.MonkeyPatch()

    def poison(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        if state.step == 3:
            with torch.no_grad():
                next(self.engine.module.parameters()).fill_(math.inf)
        return taken(self, window, targets, rate, state)

    with poisoned.context() as patch:
        patch.setattr(loop.Training, "_step", poison)
        read_late(patch, late)
        with pytest.raises(Diverged, match=r"the loss of step 4 is nan, at a learning rate of 10\b|9\.\d+") as found:
            run.train()
    assert found.value.exit_code == 1
    assert step_names(run) == ["step-00000002"]


@pytest.mark.parametrize(("precision", "zero"), [("FP32", 0), ("FP32", 1), ("BF16", 0), ("BF16", 3)])
def test_a_gradient_that_is_not_a_number_ends_the_stage_in_every_precision_that_has_no_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, zero: int
) -> None:
    stage = {"precision": precision, "memory": {"zeroStage": zero}}
    run = make(tmp_path, PRETRAIN | stage, **CHECKPOINTS)
    taken = loop.Training._step

    def poison(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        if state.step == 3:
            next(self.engine.module.parameters()).register_hook(lambda gradient: gradient * math.inf)
        return taken(self, window, targets, rate, state)

    monkeypatch.setattr(loop.Training, "_step", poison)
    with pytest.raises(Diverged, match=r"the gradient norm of step 4 is (nan|inf), at a learning rate of "):
        run.train()
    assert step_names(run) == ["step-00000002"]


def test_validation_is_weighted_by_tokens(tmp_path: Path) -> None:
    run = make(tmp_path, PRETRAIN | VALIDATED)
    run.train()
    measured = {row["step"]: row["validation_loss"] for row in run.metrics() if row["validation_loss"] is not None}
    assert sorted(measured) == [2, 4, 6]
    model = stage_model.load_final(run.plan, run.workspace).eval()
    shards = Shards.open(run.folder().data("validation"))
    nats = targets = 0.0
    for index in range(shards.n_documents):
        tokens = torch.tensor(shards.document(index)[0].astype("int64"))
        with torch.no_grad():
            logits = model(input_ids=tokens[None]).logits[0]
        nats += float(torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="sum"))
        targets += len(tokens) - 1
    assert measured[6] == pytest.approx(nats / targets, abs=1e-5)


def rising(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Measures these validation losses, one after the other."""
    left = iter(losses)
    monkeypatch.setattr("slipway_trainer.training.validation.ValidationSet.figures", lambda *_: [next(left)])


def test_select_best_ends_with_the_weights_of_the_lowest_validation_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"checkpoints": {"everySteps": 2, "keep": 1}}
    until_four = make(tmp_path / "four", PRETRAIN | VALIDATED | {"steps": 10}, **settings)
    crash(until_four, at=5)
    run = make(tmp_path / "best", PRETRAIN | VALIDATED | {"steps": 10, "select": "Best"}, **settings)
    rising(monkeypatch, 5.0, 4.0, 4.5, 4.6, 4.7)
    result = run.train()
    assert result.metrics["selected_step"] == 4
    assert result.metrics["validation_loss"] == 4.0
    assert step_names(run) == ["step-00000004", "step-00000010"]
    best = torch.load(until_four.folder().checkpoint(4) / checkpoint_files.WEIGHTS)
    assert torch.equal(weights(run)["model.norm.weight"], best["model.norm.weight"])


BEST = PRETRAIN | VALIDATED | {"steps": 10, "select": "Best"}


@pytest.mark.parametrize(
    ("losses", "fails", "selected"),
    [
        # Steps 2, 4, 6, 8 and 10.
        ((5.0, 3.0, 4.5, 4.6, 4.7), 4, 6),
        ((4.0, 3.0, 4.5, 4.6, 4.7), 4, 2),
        ((5.0, 4.0, 4.5, 4.6, 3.0), 10, 10),
    ],
)
def test_select_best_with_a_full_disk_ends_with_the_best_that_is_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    losses: tuple[float, ...],
    fails: int,
    selected: int,
) -> None:
    run = make(tmp_path, BEST, checkpoints={"everySteps": 2, "keep": 1})
    rising(monkeypatch, *losses)
    fail_writing(monkeypatch, fails)
    result = run.train()
    assert result.metrics["selected_step"] == selected
    assert result.metrics["validation_loss"] == losses[selected // 2 - 1]
    told = capsys.readouterr().out
    lost = selected != fails
    assert ("the best so far, and select: Best cannot end with it: the best that is kept is of step 2" in told) == lost
    assert ("the checkpoint of the lowest one (3.0000) could not be kept" in told) == lost


def test_patience_counts_from_the_lowest_loss_although_it_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, BEST | {"earlyStop": {"patience": 2}}, checkpoints={"everySteps": 2, "keep": 1})
    rising(monkeypatch, 5.0, 3.0, 4.5, 4.4)
    fail_writing(monkeypatch, 4)
    result = run.train()
    assert (result.metrics["steps"], result.metrics["selected_step"]) == (8, 8)


def test_a_best_checkpoint_that_is_gone_is_replaced_by_the_best_of_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path, BEST, checkpoints={"everySteps": 2, "keep": 1})
    rising(monkeypatch, 5.0, 3.0, 4.5, 4.2, 4.7)
    crash(run, at=7)
    shutil.rmtree(run.folder().checkpoint(4))
    result = run.train(attempt=2)
    assert result.metrics["selected_step"] == 8
    told = capsys.readouterr().out
    assert "the checkpoint of step 4, which was the best (validation loss 3.0), is not there any more" in told


def test_a_stop_with_a_full_disk_says_where_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    fail_writing(monkeypatch, 3)
    stopping(monkeypatch, 3)
    with pytest.raises(Interrupted, match="stopped at step 3 of 6; it goes on from step 2"):
        run.train()


def test_early_stop_ends_the_stage_after_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, PRETRAIN | VALIDATED | {"steps": 20, "earlyStop": {"patience": 2}})
    rising(monkeypatch, 5.0, 4.0, 4.5, 4.6, 1.0)
    result = run.train()
    assert result.metrics["steps"] == 8
    assert result.progress is not None
    assert result.progress.total == 20


def test_chat_learns_the_answers_alone(tmp_path: Path) -> None:
    run = make(tmp_path, CHAT | {"steps": 1, "batch": {"sequences": 1}, "optimizer": {"learningRate": 1e-9}})
    run.train("sft")
    shards = Shards.open(run.folder("sft").data("train"))
    model = stage_model.load_composed(run.plan, run.workspace, None, seed=0).eval()
    bins = order.epoch(shards, seed=0, epoch=0, max_length=64)
    nats = targets = 0.0
    for document in bins.row(0):
        tokens, learn = shards.document(int(document))
        ids, mask = torch.tensor(tokens.astype("int64")), torch.tensor(learn)
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0]
        losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        nats += float(losses[mask[1:]].sum())
        targets += int(mask[1:].sum())
    assert 0 < targets < len(ids) * len(bins.row(0))
    assert run.losses("sft")[0] == pytest.approx(nats / targets, abs=1e-5)


@pytest.mark.parametrize("method", ["LoRA", "DoRA"])
def test_an_adapter_on_a_folder_base_trains_alone_and_merges(tmp_path: Path, method: str) -> None:
    first = make(tmp_path / "base")
    first.train()
    folder = first.folder().model
    tokenizer.load(first.workspace).save_pretrained(str(folder))
    before = weights(first)
    adapter = {"adapter": {"method": method, "rank": 4, "dropout": 0.0}, "optimizer": {"learningRate": 1e-2}}
    run = make(tmp_path / "lora", CHAT | {"steps": 12} | adapter, model={"from": f"file://{folder}"})
    result = run.train("sft")
    assert run.losses("sft")[-1] < run.losses("sft")[0] - 0.2
    assert result.metrics["steps"] == 12
    decided = json.loads(run.folder("sft").resolved.read_text())
    assert decided["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    saved = json.loads((run.folder("sft").adapter / "adapter_config.json").read_text())
    assert str(tmp_path) not in json.dumps(saved)
    assert saved["target_modules"] == decided["target_modules"]
    merged = stage_model.load_final(run.plan, run.workspace).state_dict()
    key = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(merged[key], before[key])
    assert torch.equal(merged["model.norm.weight"], before["model.norm.weight"])


def base_without_turns(folder: Path) -> str:
    """A model that has never seen the tokens of a chat template: their rows are alike, as when they were made."""
    first = make(folder / "base")
    first.train()
    place = first.folder().model
    words = tokenizer.load(first.workspace)
    model = stage_model.load_folder(place, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[words.convert_tokens_to_ids(TURNS)] = 0.01
    model.save_pretrained(str(place))
    words.save_pretrained(str(place))
    return f"file://{place}"


@pytest.mark.parametrize("zero", [0, 3])
def test_tokens_that_the_base_never_learned_are_trained_beside_an_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zero: int
) -> None:
    adapter = {"adapter": {"method": "LoRA", "rank": 4}, "optimizer": {"learningRate": 1e-2}}
    settings = CHAT | {"steps": 4, "memory": {"zeroStage": zero}} | adapter
    model = {"from": base_without_turns(tmp_path)}
    run = make(tmp_path / "lora", settings, model=model, **CHECKPOINTS)
    before = stage_model.load_composed(run.plan, run.workspace, None)
    crash(run, at=3, stage="sft")
    run.train("sft", attempt=2)
    told = "the base never learned <|im_start|>, <|im_end|>: their rows are trained with the adapter"
    assert told in capsys.readouterr().out
    assert told == json.loads(run.folder("sft").resolved.read_text())["reasons"]["adapter.rows"]
    old = before.get_input_embeddings().weight
    new = stage_model.load_final(run.plan, run.workspace).get_input_embeddings().weight
    moved = (new != old).any(1).nonzero().flatten().tolist()
    assert moved == sorted(tokenizer.load(run.workspace).convert_tokens_to_ids(TURNS))


def test_the_next_stage_starts_where_the_one_before_ended(tmp_path: Path) -> None:
    frozen = {"steps": 1, "optimizer": {"learningRate": 1e-9, "weightDecay": 0}}
    again = PRETRAIN | frozen | {"name": "again"}
    adapter = PRETRAIN | {"name": "adapt", "adapter": {"method": "LoRA", "rank": 2}}
    run = make(tmp_path, PRETRAIN, adapter, again)
    for stage in ("pretrain", "adapt", "again"):
        run.train(stage)
    composed = stage_model.load_composed(run.plan, run.workspace, "adapt").state_dict()
    for name, weight in weights(run, "again").items():
        torch.testing.assert_close(weight, composed[name], atol=1e-6, rtol=0)


def stopping(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A signal comes while a step is taken."""
    taken = loop.Training._step

    def asked(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        self.stop.requested = state.step + 1 == step
        return taken(self, window, targets, rate, state)

    monkeypatch.setattr(loop.Training, "_step", asked)


def test_a_stop_is_a_checkpoint_on_that_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = make(tmp_path / "undisturbed")
    undisturbed.train()
    run = make(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        stopping(patch, 3)
        with pytest.raises(Interrupted, match="stopped at step 3 of 6") as found:
            run.train()
    assert found.value.exit_code == exit_codes.RESTARTABLE
    assert found.value.progress is not None
    assert (found.value.progress.step, found.value.progress.message) == (3, None)
    assert step_names(run) == ["step-00000003"]
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_global_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = make(tmp_path / "undisturbed")
    undisturbed.train()
    run = make(tmp_path / "small", **CHECKPOINTS)
    taken = loop.Training._step

    def small(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        if state.step == 3 and self.resolved.micro_batch > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return taken(self, window, targets, rate, state)

    monkeypatch.setattr(loop.Training, "_step", small)
    train.run(run.plan, run.workspace, stage="pretrain", attempt=1)
    told = capsys.readouterr().out
    assert "out of memory with 4 rows at once: going on with 2" in told
    assert "out of memory with 2 rows at once: going on with 1" in told
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-5)


def test_another_try_after_out_of_memory_begins_when_nothing_is_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    taken, written, clean = loop.Training._step, checkpoint_files.write, Checkpoints.clean
    go_on, writing, beside = threading.Event(), list[str](), list[str]()

    def slow(path: Path, value: Any) -> Any:
        writing.append(path.name)
        go_on.wait()
        entry = written(path, value)
        writing.remove(path.name)
        return entry

    def small(self: Any, window: Any, targets: float, rate: float, state: TrainState) -> Any:
        if state.step == 3 and self.resolved.micro_batch > 2:
            threading.Timer(1.0, go_on.set).start()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return taken(self, window, targets, rate, state)

    def cleaned(self: Checkpoints) -> None:
        beside.extend(writing)
        clean(self)

    monkeypatch.setattr(Checkpoints, "written", property(lambda _: go_on.is_set()))
    monkeypatch.setattr(Checkpoints, "clean", cleaned)
    monkeypatch.setattr(checkpoint_files, "write", slow)
    monkeypatch.setattr(loop.Training, "_step", small)
    train.run(run.plan, run.workspace, stage="pretrain", attempt=1)
    assert go_on.is_set()
    assert beside == []


def test_out_of_memory_with_one_row_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, PRETRAIN | {"batch": {"sequences": 1}})

    def small(*_: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(loop.Training, "_step", small)
    with pytest.raises(OutOfMemory, match="gradientCheckpointing: Enabled"):
        train.run(run.plan, run.workspace, stage="pretrain", attempt=1)


def test_what_was_decided_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, **CHECKPOINTS)
    crash(run, at=4)
    first = run.folder().resolved.read_text()
    monkeypatch.setattr("slipway_trainer.training.memory.free_bytes", lambda *_: 1)
    run.train(attempt=2)
    assert run.folder().resolved.read_text() == first


def test_what_cannot_fit_is_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    monkeypatch.setattr("slipway_trainer.training.memory.free_bytes", lambda *_: 1)
    with pytest.raises(BadConfig, match=r"stages\[pretrain\]: does not fit into memory: .* ZeRO stage 0, 1 process"):
        run.train()
    assert not run.folder().resolved.exists()
    assert not run.folder().metrics.exists()


def test_rows_longer_than_the_model_are_refused(tmp_path: Path) -> None:
    run = make(tmp_path)
    model = stage_model.load_composed(run.plan, run.workspace, None)
    long = run.plan.stages[0].model_copy(update={"max_length": 65})
    with pytest.raises(BadConfig, match=r"stages\[pretrain\].maxLength: 65 is above the 64 tokens"):
        check_length(model.config, long)


def test_data_that_was_not_prepared_is_missed(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.workspace.prepared.unlink()
    with pytest.raises(BadData, match="the data was not prepared"):
        run.train()


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    curves = []
    for seed in (0, 1):
        run = make(tmp_path / str(seed), PRETRAIN | {"seed": seed})
        run.train()
        curves.append(run.losses())
    assert curves[0] != curves[1]


@pytest.mark.parametrize("length", [{"epochs": 2}, {"tokens": 300}])
def test_epochs_and_tokens_end_where_they_should(tmp_path: Path, length: dict[str, Any]) -> None:
    settings = {name: value for name, value in PRETRAIN.items() if name != "steps"}
    run = make(tmp_path, settings | length)
    run.train()
    last = run.metrics()[-1]
    shards = Shards.open(run.folder().data("train"))
    if "epochs" in length:
        assert last["epoch"] == 2.0
        assert last["tokens"] == 2 * shards.n_tokens
    else:
        before = run.metrics()[-2]["tokens"]
        assert before < 300 <= last["tokens"]


def falcon(folder: Path, first: Training) -> str:
    """A Falcon, which lets documents of a row see each other; with the tokenizer of another run."""
    words = tokenizer.load(first.workspace)
    torch.manual_seed(0)
    config = FalconConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.3
    )
    FalconForCausalLM(config).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return f"file://{folder}"


def test_documents_that_would_see_each_other_get_a_row_each_and_the_log_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The steps are those of a model that keeps them apart, and the validation loss does not depend on the packing."""
    model = {"from": falcon(tmp_path / "falcon", make(tmp_path / "words"))}
    still = PRETRAIN | VALIDATED | {"steps": 2, "optimizer": {"learningRate": 1e-9}}
    run = make(tmp_path / "packed", still | {"maxLength": 64}, model=model)
    run.train()
    assert "one document a row: falcon lets documents of a row see each other" in capsys.readouterr().out
    decided = json.loads(run.folder().resolved.read_text())
    assert decided["packed"] is False
    assert "falcon" in decided["reasons"]["packing"]
    alone = make(tmp_path / "alone", still | {"maxLength": 24}, model=model)
    alone.train()
    losses = [found.metrics()[-1]["validation_loss"] for found in (run, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_documents_that_share_rows_are_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(tmp_path)
    run.train()
    assert json.loads(run.folder().resolved.read_text())["packed"] is True
    assert "several documents a row: a document behind another one is computed as by itself" in capsys.readouterr().out
