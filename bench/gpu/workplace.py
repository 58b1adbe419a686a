"""A base model of random weights, and runs that train it on synthetic tokens, prepared as `prepare` leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.gpu.sizes import Extent, Shape

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.batches.shards import ShardWriter

STAGE = "bench"
RANK = 16
RATE = 1e-4


@dataclass(frozen=True)
class Run:
    plan: Plan
    workspace: Workspace
    shape: Shape
    width: int
    adapter: bool
    precision: str
    rows_at_once: int

    @property
    def dtype(self) -> torch.dtype:
        return {"BF16": torch.bfloat16, "FP32": torch.float32}[self.precision]


def make_base(folder: Path, shape: Shape, extent: Extent, device: torch.device) -> Path:
    """Writes a model with a tokenizer of as many words, in bfloat16; one that is there is kept."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").exists():
        return folder
    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM(shape.config(max(extent.widths)))
    model.to(torch.bfloat16).save_pretrained(str(folder))  # type: ignore[call-arg]
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, shape.vocabulary)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(str(folder))
    return folder


def make_run(
    folder: Path,
    base: Path,
    shape: Shape,
    extent: Extent,
    *,
    width: int,
    adapter: bool,
    precision: str,
    compiled: str = "Auto",
) -> Run:
    """Writes the workspace of a run that is prepared and not trained."""
    rows = extent.rows_at_once(width)
    steps = extent.first_steps + extent.steps
    stage: dict[str, Any] = {
        "name": STAGE,
        "data": {"train": [{"uri": "file://synthetic.jsonl"}]},
        "maxLength": width,
        "steps": steps,
        "batch": {"sequences": rows * extent.micro_batches, "microSequences": rows},
        "precision": precision,
        "compile": compiled,
        "memory": {"gradientCheckpointing": "Disabled"},
        "optimizer": {"learningRate": RATE, "schedule": "Constant", "warmupRatio": 0.0},
    }
    if adapter:
        stage["adapter"] = {"method": "LoRA", "rank": RANK, "alpha": 2 * RANK}
    spec = {
        "model": {"from": f"file://{base}"},
        "stages": [stage],
        "checkpoints": {"everySteps": 100_000, "keep": 1},
    }
    run = TrainingRun.model_validate({"metadata": {"name": "gpu-check"}, "spec": spec}, by_alias=True, by_name=False)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(folder)), uid="gpu-check")
    workspace = Workspace(folder / "run")
    workspace.root.mkdir(parents=True)
    workspace.plan.write_text(plan.to_json())
    workspace.tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (workspace.tokenizer / name).write_bytes((base / name).read_bytes())
    write_tokens(workspace.stage(STAGE).data("train"), shape.vocabulary, width, rows * extent.micro_batches * steps)
    workspace.prepared.write_text("{}\n")
    return Run(plan, workspace, shape, width, adapter, precision, rows)


def write_tokens(folder: Path, vocabulary: int, width: int, rows: int) -> None:
    """Writes documents that fill so many rows: of half a row in the median, none longer than one."""
    draw = np.random.default_rng(0)
    lengths: list[int] = []
    # A little more than fits, so that no document is seen twice.
    while sum(lengths) < 1.1 * rows * width:
        lengths += [int(n) for n in np.clip(draw.lognormal(np.log(width / 2), 0.8, 64), 8, width)]
    tokens = draw.integers(3, vocabulary, sum(lengths))
    with ShardWriter(folder, ids=vocabulary, masked=False, attempt=1) as writer:
        writer.add(tokens, np.array(lengths), 1.0)
        writer.finish()
