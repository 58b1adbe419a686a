"""How fast a model trains: by Slipway, by a bare torch loop on the same batches, and by transformers' Trainer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from bench import stage_windows
from bench.gpu import memory_use
from bench.gpu.memory_use import Peak
from bench.gpu.sizes import Extent
from bench.gpu.workplace import RANK, RATE, STAGE, Run
from torch.nn import functional

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import stage_model
from slipway_trainer.model.model_inputs import model_inputs
from slipway_trainer.step import progress
from slipway_trainer.step.errors import OutOfMemory
from slipway_trainer.training import model_size, resolved, train
from slipway_trainer.training.checkpoints import checkpoint_space
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.micro_batches import Windows
from slipway_trainer.training.process_group import Ranks


@dataclass(frozen=True)
class Speed:
    tokens: int
    """Real ones, without padding, of the timed steps."""
    seconds: float
    peak: int
    """Bytes, with the model."""
    note: str = ""


def of(contender: str, run: Run, extent: Extent) -> Speed:
    """Trains the first steps, and times the others. Raises torch's OutOfMemoryError where they do not fit."""
    made = {"slipway": slipway, "bare loop": bare_loop, "Trainer": trainer, UNCOMPILED: slipway}
    return made[contender](run, extent)


CONTENDERS = ("slipway", "bare loop", "Trainer")
UNCOMPILED = "slipway, not compiled"
"""One contender more, where the first one compiles. Its run is another one."""


class _Measured(Exception):
    """The last step was told."""


def slipway(run: Run, extent: Extent) -> Speed:
    """The step train as a run starts it, up to where it would write its checkpoint. Times are those of
    metrics.jsonl, whose row is written when the figures of a step are there."""

    def ends(*_: Any) -> None:
        raise _Measured

    peak = Peak.start(Ranks().device)
    with (
        mock.patch.object(Checkpoints, "begin", ends),
        # None is written, so there need be no room for them.
        mock.patch.object(checkpoint_space, "require", return_value=None),
    ):
        try:
            train.run(run.plan, run.workspace, stage=STAGE, attempt=1)
        except _Measured:
            pass
        except OutOfMemory as error:
            raise torch.OutOfMemoryError(str(error)) from error
    most = peak.bytes
    folder = run.workspace.stage(STAGE)
    rows = progress.read(folder.metrics)
    first, last = rows[extent.first_steps - 1], rows[-1]
    decided = resolved.read(folder.resolved)
    assert decided is not None
    assert len(rows) == extent.first_steps + extent.steps, f"{len(rows)} steps were told"
    fewer = f"{decided.micro_batch} rows at once fitted, not {run.rows_at_once}; "
    note = (fewer if decided.micro_batch < run.rows_at_once else "") + f"attention {decided.attention}"
    note += ", compiled" if decided.compile else ""
    return Speed(last["tokens"] - first["tokens"], last["time"] - first["time"], most, note)


def bare_loop(run: Run, extent: Extent) -> Speed:
    """A loop by hand on the batches of Slipway with the same attention: all logits, torch's cross entropy, fused AdamW
    on float32 copies of half-precision weights, and nothing else."""
    device = Ranks().device
    peak = Peak.start(device)
    model: Any = stage_model.load_for_stage(run.plan, run.workspace, STAGE, device=device, dtype=run.dtype)
    model.train()
    attention = model.config._attn_implementation
    optimizer = _Masters([weight for weight in model.parameters() if weight.requires_grad])
    windows = _windows(run)
    clock = _Clock(device, extent)
    for window in windows:
        for batch in window.batches:
            moved = batch.to(device)
            logits = model(**model_inputs(moved, attention=attention, packed=True)).logits
            logits = logits.view(-1, logits.shape[-1])[moved.predicting]
            loss = functional.cross_entropy(logits.float(), moved.targets, reduction="sum")
            (loss / window.counted).backward()
        optimizer.step()
        clock.step()
    return Speed(_tokens(windows, extent), clock.seconds, peak.bytes, f"attention {attention}")


class _Masters:
    """AdamW on float32 copies of the weights; on the weights themselves where they are float32."""

    def __init__(self, weights: list[torch.nn.Parameter]) -> None:
        self._weights = weights
        half = any(weight.dtype != torch.float32 for weight in weights)
        self._whole = [weight.detach().float().clone() for weight in weights] if half else weights
        self._optimizer = torch.optim.AdamW(self._whole, lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(self) -> None:
        for weight, whole in zip(self._weights, self._whole, strict=True):
            if self._whole is not self._weights:
                assert weight.grad is not None
                whole.grad, weight.grad = weight.grad.float(), None
        torch.nn.utils.clip_grad_norm_(self._whole, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._whole is not self._weights:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._whole)


def trainer(run: Run, extent: Extent) -> Speed:
    """transformers' Trainer on the same packed rows, whose documents it tells apart by their positions: float32 weights
    under autocast, torch's attention."""
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    device = Ranks().device
    peak = Peak.start(device)
    base = str(run.plan.model.from_).removeprefix("file://")
    dtype = run.dtype if run.adapter else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa")
    if run.adapter:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"))
    windows = _windows(run)
    clock = _Clock(device, extent)

    class Told(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step()

    # Left by the run before: they would have it wrap the model for several processes.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    arguments = TrainingArguments(
        str(run.workspace.root / "trainer"),
        per_device_train_batch_size=run.rows_at_once,
        gradient_accumulation_steps=extent.micro_batches,
        max_steps=extent.first_steps + extent.steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        max_grad_norm=1.0,
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        bf16=run.precision == "BF16",
        use_cpu=device.type == "cpu",
        save_strategy="no",
        report_to=[],
        logging_steps=1000,
        disable_tqdm=True,
        dataloader_num_workers=0,
        gradient_checkpointing=False,
    )
    rows = [row for window in windows for batch in window.batches for row in _rows(batch)]
    made = Trainer(model, arguments, train_dataset=_InOrder(rows), data_collator=_stacked, callbacks=[Told()])
    # Otherwise it shuffles them.
    with mock.patch.object(Trainer, "_get_train_sampler", return_value=None):
        made.train()
    return Speed(_tokens(windows, extent), clock.seconds, peak.bytes, "attention sdpa")


class _InOrder(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, rows: list[dict[str, torch.Tensor]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._rows[index]


def _stacked(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _rows(batch: Batch) -> list[dict[str, torch.Tensor]]:
    labels = torch.full_like(batch.input_ids, -100).view(-1)
    labels[batch.predicting + 1] = batch.targets
    labels = labels.view_as(batch.input_ids)
    columns = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "labels": labels}
    return [{name: column[row] for name, column in columns.items()} for row in range(len(labels))]


class _Clock:
    """Times the steps after the first ones; the device has done all of a step when its end is read."""

    def __init__(self, device: torch.device, extent: Extent, now: Callable[[], float] = time.perf_counter) -> None:
        self._device, self._first, self._last = device, extent.first_steps, extent.first_steps + extent.steps
        self._now = now
        self._steps = 0
        self._started = 0.0
        self.seconds = 0.0

    def step(self) -> None:
        """Is told that a step was taken."""
        self._steps += 1
        if self._steps not in (self._first, self._last):
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        if self._steps == self._first:
            self._started = self._now()
        else:
            self.seconds = self._now() - self._started


def _windows(run: Run) -> list[Any]:
    made: Windows = stage_windows.of_stage(run.plan, run.workspace, STAGE, micro_batch=run.rows_at_once)
    return [made.of_step(step) for step in range(made.extent.steps)]


def _tokens(windows: list[Any], extent: Extent) -> int:
    return sum(window.tokens for window in windows[extent.first_steps :])


def lengths_of(run: Run, extent: Extent) -> list[int]:
    """Returns the tokens of the documents of the timed steps, padding left out."""
    made = stage_windows.of_stage(run.plan, run.workspace, STAGE, micro_batch=run.rows_at_once)
    start, stop = made.extent.window(extent.first_steps)[0], made.extent.rows
    return [int(made.micro.shards.lengths[document]) for document in made.stream.rows(start, stop).documents]


def estimate(run: Run) -> tuple[int, int]:
    """Returns weights that are trained, and bytes that the training is thought to need."""
    model = stage_model.load_for_stage(run.plan, run.workspace, STAGE, device=torch.device("cpu"), dtype=run.dtype)
    stage = run.plan.stage(STAGE)
    size = model_size.of_model(model, stage)
    zero = 0 if run.precision == "FP32" else 1
    device = Ranks().device.type
    return size.trainable, memory_use.estimated(size, stage, device, run.precision, zero, run.rows_at_once)
