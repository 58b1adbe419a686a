"""How long a training process takes to its first step: a fresh one, and one that goes on from a checkpoint.

    .venv/bin/python -m bench.process_start [--rounds 3] [--imports | --collector]

Both are `slipway-trainer train` as an executor starts it, on a model of 1.2M weights, from the start of the process to
the first row of metrics.jsonl that is its own. What counts is CPU-seconds of the process. Beside them stands a process
that imports torch, transformers' Llama and DeepSpeed and does nothing. `--imports` lists the dearest imports instead,
and `--collector` compares imports with Python's garbage collector as it is, and held back as a step does it, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.process_usage import usage_of

from slipway_core import plan as plans
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun

SHAPE = {"layers": 4, "hiddenSize": 128, "heads": 4, "intermediateSize": 352, "maxLength": 128}
BARE = (
    "import torch; from transformers import LlamaForCausalLM; import deepspeed; import time; print(time.process_time())"
)
OURS = (
    "from slipway_trainer.step import startup; startup.prepare_process(); "
    "import slipway_trainer.training.stage, deepspeed, transformers.models.llama.modeling_llama"
)
COLLECTED = """
import contextlib, gc, resource, sys, time
from slipway_host import imports
spent, begun = 0.0, 0.0

def looked(phase, _):
    global spent, begun
    if phase == "start":
        begun = time.process_time()
    else:
        spent += time.process_time() - begun

gc.callbacks.append(looked)
with imports.of_libraries() if sys.argv[1] == "held back" else contextlib.nullcontext():
    IMPORTS
print(time.process_time(), spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--collector", action="store_true")
    options = parser.parse_args()
    if options.imports:
        return dearest()
    if options.collector:
        return collector(options.rounds)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        workspace = prepared(Path(folder))
        found: dict[str, list[tuple[float, float]]] = {"imports alone": [], "fresh": [], "goes on": []}
        for number in range(options.rounds):
            found["imports alone"].append(bare())
            found["fresh"].append(start(workspace, 2 * number + 1, fresh=True))
            found["goes on"].append(start(workspace, 2 * number + 2, fresh=False))
    print("| process | CPU-seconds to the first step, median | seconds |\n|---|---|---|")
    for name, results in found.items():
        cpu, wall = (median(values) for values in zip(*results, strict=True))
        print(f"| {name} | {cpu:.1f} | {wall:.1f} |")
    return None


def prepared(folder: Path) -> Workspace:
    rows = ({"text": f"the river runs by the old mill and {number} birds sing"} for number in range(500))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text)
    stage = {
        "name": "bench", "data": {"train": [{"uri": "file://rows.jsonl"}]}, "maxLength": 128, "steps": 100_000,
        "batch": {"sequences": 2}, "precision": "FP32",
    }  # fmt: skip
    model = {"scratch": SHAPE | {"tokenizer": {"train": {"vocabSize": 400}}}}
    spec = {"model": model, "stages": [stage], "checkpoints": {"everySteps": 2}}
    document = {"metadata": {"name": "bench", "uid": "bench-bench"}, "spec": spec}
    plan = plans.resolve(TrainingRun.model_validate(document), plans.ExecutorDefaults(folder=str(folder)))
    workspace = Workspace(folder / "workspace")
    workspace.root.mkdir()
    workspace.plan.write_text(plan.to_json())
    command = [sys.executable, "-m", "slipway_trainer.main", "prepare", "--plan", str(workspace.plan), "--attempt", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return workspace


def start(workspace: Workspace, attempt: int, *, fresh: bool) -> tuple[float, float]:
    """Returns CPU-seconds and seconds to the first row of an attempt, ended by SIGTERM, which leaves a checkpoint.

    Args:
        fresh: whether nothing is there of the attempts before; else it goes on from what the last one has left.
    """
    folder = workspace.stage("bench")
    if fresh:
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        folder.metrics.unlink(missing_ok=True)
    command = [sys.executable, "-m", "slipway_trainer.main", "train", "--plan", str(workspace.plan)]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "--stage", "bench", "--attempt", str(attempt)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
    )
    while f'"attempt": {attempt},' not in (folder.metrics.read_text() if folder.metrics.exists() else ""):
        if process.poll() is not None:
            sys.exit(f"attempt {attempt} ended with {process.returncode}")
        time.sleep(0.02)
    taken = usage_of(process.pid).cpu_seconds, time.monotonic() - started
    process.send_signal(signal.SIGTERM)
    process.wait()
    return taken


def bare() -> tuple[float, float]:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BARE], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1]), time.monotonic() - started


def collector(rounds: int) -> None:
    """Prints what the imports of a training process take with the garbage collector as it is, and held back."""
    code = COLLECTED.replace("IMPORTS", OURS)
    found: dict[str, list[list[float]]] = {"as it is": [], "held back": []}
    for _ in range(rounds):
        for name, results in found.items():
            command = [sys.executable, "-W", "ignore", "-c", code, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append([float(value) for value in done.stdout.splitlines()[-1].split()])
    print("| collector | CPU-seconds, median | of them the collector's | peak memory, MiB |\n|---|---|---|---|")
    for name, results in found.items():
        cpu, spent, peak = (median(values) for values in zip(*results, strict=True))
        print(f"| {name} | {cpu:.1f} | {spent:.2f} | {peak:.0f} |")


def dearest() -> None:
    """Prints the imports that take most, with what they import themselves."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", OURS], capture_output=True, text=True, check=True)
    found = [(int(all_), int(own), name) for own, all_, _, name in _IMPORT.findall(done.stderr)]
    print("| with its own imports, ms | alone, ms | module |\n|---|---|---|")
    for all_, own, name in sorted(found, reverse=True)[:60]:
        print(f"| {all_ / 1000:.0f} | {own / 1000:.0f} | {name} |")


if __name__ == "__main__":
    main()
