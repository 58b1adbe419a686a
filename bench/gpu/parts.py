"""The parts of the check, each of which runs in a process of its own and says what it found a line at a time."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from bench import checkpoint_stall
from bench.gpu import correctness, quickstart, throughput, workplace
from bench.gpu.budget import Budget
from bench.gpu.sizes import Extent, Shape

from slipway_trainer.step.errors import first_line
from slipway_trainer.training import devices
from slipway_trainer.training.process_group import Ranks

MARK = "RESULT "
Say = Callable[[str, dict[str, Any]], None]
"""Tells what kind of row it is, and the row."""


def say(kind: str, row: dict[str, Any]) -> None:
    print(MARK + json.dumps({"kind": kind} | row), flush=True)


def machine() -> dict[str, Any]:
    """Returns what is measured on."""
    import deepspeed
    import transformers

    device = devices.here()
    return {
        "device": device.name,
        "flops": device.flops,
        "memory": device.memory,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "deepspeed": deepspeed.__version__,
        },
    }


def check_correctness(folder: Path, budget: Budget) -> None:
    device = Ranks().device
    for name, check in correctness.checks(device, folder).items():
        if name in correctness.NEED_GPU and device.type == "cpu":
            say("left out", {"what": f"{name}: needs a GPU"})
            continue
        if not budget.has_room_for(name):
            continue
        started = time.monotonic()
        try:
            found = check()
            row = {"name": name, "passed": found.passed, "found": found.found}
        except Exception as error:
            row = {"name": name, "passed": False, "found": f"{type(error).__name__}: {first_line(error)}"}
        budget.spent(time.monotonic() - started)
        say("check", row | {"seconds": time.monotonic() - started})
    _leave_out(budget)


def take_quickstart(extent: Extent, folder: Path, budget: Budget) -> None:
    """Takes the steps of the quickstart one after the other, and judges the model once more without the GPU."""
    plan, workspace = quickstart.prepared(folder / "quickstart", extent.quickstart_steps)
    judged = None
    for name in plan.judged_steps:
        if not budget.has_room_for(f"the quickstart, from {name} on"):
            break
        step = quickstart.take(workspace, name)
        say("step", {"name": name, "seconds": step.seconds} | quickstart.speed(workspace, plan, name))
        judged = step.result
    else:
        assert judged is not None
        say("step", {"name": "verdict", "found": quickstart.judged(plan, judged)})
        if budget.has_room_for("the quickstart, judged without the GPU"):
            again = quickstart.take(workspace, plan.judged_steps[-1], attempt=2, gpu=False)
            agreement = quickstart.compared(workspace, judged, again.result)
            row = {"passed": agreement.holds, "found": agreement.told(), "seconds": again.seconds}
            say("check", {"name": "a model is judged alike with and without the GPU"} | row)
    _leave_out(budget)


def measure_speed(shape: Shape, extent: Extent, folder: Path, budget: Budget) -> None:
    """Times every contender on every width, with all weights trained and with LoRA."""
    device = Ranks().device
    precision = "BF16" if device.type == "cuda" else "FP32"
    base = workplace.make_base(folder / "base", shape, extent, device)
    for adapter in (False, True):
        for width in extent.widths:
            place = folder / f"{'lora' if adapter else 'full'}-{width}"
            known = {"width": width, "adapter": adapter, "precision": precision}
            run = workplace.make_run(place, base, shape, extent, **known)
            trained, estimated = throughput.estimate(run)
            lengths = throughput.lengths_of(run, extent)
            operations = shape.operations(lengths, adapter=trained if adapter else None)
            told = {
                "model": shape.name,
                "rows": width,
                "trains": "LoRA" if adapter else "all weights",
                "rows_at_once": run.rows_at_once,
                "precision": precision,
                "estimated_bytes": estimated,
            }
            contenders = list(throughput.CONTENDERS)
            if device.type == "cuda" and width == extent.widths[0]:
                contenders.append(throughput.UNCOMPILED)
            for contender in contenders:
                words = f"{shape.name}, rows of {width}, {told['trains']}: {contender}"
                if not budget.has_room_for(words):
                    continue
                started = time.monotonic()
                if contender == throughput.UNCOMPILED:
                    run = workplace.make_run(place / "plain", base, shape, extent, **known, compiled="Disabled")
                row = _measured(run, extent, contender, sum(lengths), operations)
                budget.spent(time.monotonic() - started)
                say("speed", told | {"contender": contender} | row)
            shutil.rmtree(place)
    _leave_out(budget)


def _measured(run: workplace.Run, extent: Extent, contender: str, tokens: int, operations: float) -> dict[str, Any]:
    try:
        found = throughput.of(contender, run, extent)
    except torch.OutOfMemoryError:
        return {"failed": f"out of memory with {run.rows_at_once} rows at once"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {first_line(error)}"}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    assert found.tokens == tokens, f"{contender} saw {found.tokens} tokens, not {tokens}"
    speed = found.tokens / found.seconds
    return {
        "tokens": found.tokens,
        "seconds": found.seconds,
        "tokens_per_second": speed,
        "flops_per_second": speed * operations / tokens,
        "peak_bytes": found.peak,
        "note": found.note,
    }


def measure_stall(shape: Shape, extent: Extent, budget: Budget) -> None:
    precision = "BF16" if Ranks().device.type == "cuda" else "FP32"
    what = f"checkpoints of {shape.name}"
    if budget.has_room_for(what):
        found = checkpoint_stall.measure(shape.config(max(extent.widths)), extent.stalls, precision)
        say("stall", {"model": shape.name, "precision": precision} | asdict(found))
    _leave_out(budget)


def _leave_out(budget: Budget) -> None:
    for what in budget.left_out:
        say("left out", {"what": f"{what}: no time was left"})
