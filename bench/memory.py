"""How much memory trainings take at their peak, beside what the memory table says.

    .venv/bin/python -m bench.memory [--only NAME,NAME]

Each case is a stage of two steps with a checkpoint after each, from random weights, by what `slipway-trainer train`
runs, in processes of its own: they are forked from one that has imported the libraries, because the imports take
longer than the steps. The peak is the kernel's (`ru_maxrss`) of the process that has the most, above that of a training
of next to nothing; beside it stands the table without its part `process`, which is that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_trainer.step import startup

# Before the libraries are imported; forked processes have no threads of these then.
os.environ["OMP_NUM_THREADS"] = "1"
startup.prepare_process()

import deepspeed  # noqa: E402, F401
import peft  # noqa: E402, F401
import torch  # noqa: E402
import transformers.models.llama.modeling_llama  # noqa: E402, F401

from slipway_core import plan as plans  # noqa: E402
from slipway_core.plan import Plan  # noqa: E402
from slipway_core.protocol.workspace import Workspace  # noqa: E402
from slipway_core.resources.training_run import TrainingRun  # noqa: E402
from slipway_trainer.batches import row_stream  # noqa: E402
from slipway_trainer.prepare import prepare  # noqa: E402
from slipway_trainer.preview import stage_memory, stage_sizes  # noqa: E402
from slipway_trainer.step.fence import Fence  # noqa: E402
from slipway_trainer.step.signals import StopFlag  # noqa: E402
from slipway_trainer.tokens import tokenizer  # noqa: E402
from slipway_trainer.training import devices  # noqa: E402
from slipway_trainer.training import stage as stages  # noqa: E402
from slipway_trainer.training.process_group import Ranks  # noqa: E402

ROWS = 400
_MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    name: str
    zero: int = 0
    processes: int = 1
    max_length: int = 128
    micro: int = 1
    vocabulary: int = 8192
    layers: int = 6
    hidden: int = 768
    checkpointing: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the stage."""

    def document(self, folder: Path) -> dict[str, Any]:
        """Returns the TrainingRun: of two micro batches a step and process."""
        scratch = {
            "layers": self.layers,
            "hiddenSize": self.hidden,
            "heads": max(1, self.hidden // 64),
            "maxLength": 2048,
            "tokenizer": {"from": f"file://{folder / 'tokenizer'}"},
        }
        stage = {
            "name": "s",
            "data": {"train": [{"uri": f"file://{folder / 'rows.jsonl'}"}]},
            "steps": 2,
            "maxLength": self.max_length,
            "batch": {"sequences": 2 * self.micro * self.processes, "microSequences": self.micro},
            "memory": {
                "zeroStage": self.zero,
                "gradientCheckpointing": "Enabled" if self.checkpointing else "Disabled",
            },
        }
        spec = {
            "model": {"scratch": scratch},
            "stages": [stage | self.settings],
            "checkpoints": {"everySteps": 1},
            "compute": {"processesPerNode": self.processes},
        }
        return {"metadata": {"name": "memory", "uid": "memory"}, "spec": spec}


TINY = Case("next to nothing", layers=1, hidden=64, vocabulary=512)
BF16 = {"precision": "BF16"}
CASES = (
    Case("FP32"),
    Case("FP32, ZeRO 1", zero=1),
    Case("FP32, ZeRO 2", zero=2),
    Case("FP32, 2 processes", processes=2),
    Case("FP32, ZeRO 1, 2 processes", zero=1, processes=2),
    Case("FP32, ZeRO 2, 2 processes", zero=2, processes=2),
    Case("FP32, ZeRO 3, 2 processes", zero=3, processes=2),
    Case("BF16, ZeRO 1", zero=1, max_length=16, settings=BF16),
    Case("BF16, ZeRO 3, 2 processes", zero=3, processes=2, max_length=16, settings=BF16),
    Case("rows of 512", max_length=512),
    Case("rows of 512, gradient checkpointing", max_length=512, checkpointing=True),
    Case("12 layers of 512", layers=12, hidden=512, max_length=256, micro=2),
    Case("152,000 words", vocabulary=152_000, layers=2, hidden=256),
    Case("LoRA", max_length=256, settings={"adapter": {"rank": 8}}),
    Case("QLoRA", max_length=256, settings={"adapter": {"method": "QLoRA", "rank": 8}}),
    Case("Muon", settings={"optimizer": {"name": "Muon"}}),
    Case("AdamW8bit", settings={"optimizer": {"name": "AdamW8bit"}}),
)


@dataclass(frozen=True)
class Found:
    weights: int
    estimated: int
    measured: int
    """Bytes at the peak; of both the process apart."""

    @property
    def off(self) -> float:
        return self.estimated / self.measured - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="names of cases, separated by a semicolon")
    options = parser.parse_args()
    named = options.only.split(";") if options.only else [case.name for case in CASES]
    chosen = [case for name in named for case in CASES if case.name == name]
    print("| case | weights, M | estimated, MiB | measured, MiB | off by |\n|---|---|---|---|---|", flush=True)
    for case, found in measured(chosen):
        print(
            f"| {case.name} | {found.weights / 1e6:.0f} | {found.estimated / _MIB:,.0f} | "
            f"{found.measured / _MIB:,.0f} | {found.off:+.0%} |",
            flush=True,
        )


def measured(cases: Iterable[Case]) -> Iterator[tuple[Case, Found]]:
    """Yields what each case took."""
    with tempfile.TemporaryDirectory(prefix="slipway-memory-") as folder:
        nothing = _peak(TINY, Path(folder))
        for case in cases:
            yield case, _of(case, Path(folder), nothing)


def _of(case: Case, folder: Path, nothing: int) -> Found:
    told = folder / "told.json"
    peak = _peak(case, folder)

    def tell() -> None:
        plan = _plan(case, folder)
        stage = plan.stages[0]
        (size,) = stage_sizes.of_plan(plan, None, case.vocabulary)
        device = devices.named("CPU")
        view = stage_memory.view(plan, stage, size, device, row_stream.sequences_of(stage), case.processes)
        process = next(part.device for part in view.parts if part.name == "process")
        told.write_text(json.dumps([size.parameters, view.device - process]))

    _forked(tell)
    weights, estimated = json.loads(told.read_text())
    return Found(weights, estimated, peak - nothing)


def _peak(case: Case, folder: Path) -> int:
    """Returns the most bytes that one process of a training of a case has in memory."""
    _forked(lambda: _prepare(case, folder))
    workspace = Workspace(folder / "run")
    Fence(workspace.fence("s"), 1).raise_()
    port = random.randrange(20_000, 40_000)
    children = [_start(lambda rank=rank: _train(case, folder, rank, port)) for rank in range(case.processes)]
    return max(_ended(child) for child in children)


def _plan(case: Case, folder: Path) -> Plan:
    run = TrainingRun.model_validate(case.document(folder))
    return plans.resolve(run, plans.ExecutorDefaults(folder=str(folder)))


def _prepare(case: Case, folder: Path) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("etaoinshrdlu ", k=draw.randint(30, 300))) for _ in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = tokenizer.train(texts, vocabulary=320, max_length=2048)
    described = json.loads(words.backend_tokenizer.to_str())
    ids = described["model"]["vocab"]
    # A model has a row for every id up to the largest.
    ids[max(ids, key=ids.__getitem__)] = case.vocabulary - 1
    words.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(described))
    workspace = Workspace(folder / "run")
    shutil.rmtree(workspace.root, ignore_errors=True)
    workspace.root.mkdir()
    plan = _plan(case, folder)
    workspace.plan.write_text(plan.to_json())
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)


def _train(case: Case, folder: Path, rank: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(case.processes),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(case.processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    ranks = Ranks(rank, case.processes, rank, case.processes)
    workspace = Workspace(folder / "run")
    stages.train_stage(_plan(case, folder), workspace, stage="s", attempt=1, ranks=ranks, stop=StopFlag())


def _start(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _ended(child: int) -> int:
    """Returns the peak of a process in bytes, once it has ended well."""
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"a process ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


def _forked(work: Callable[[], None]) -> None:
    _ended(_start(work))


if __name__ == "__main__":
    main()
