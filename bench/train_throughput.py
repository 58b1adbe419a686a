"""How fast Slipway trains on short documents, beside a plain transformers Trainer, TRL's SFTTrainer with packing, and a
bare torch loop.

    make bench                     # or: python bench/train_throughput.py [--rounds 3] [--without-trl]

All train the same 1.25M-parameter Llama in fp32 on one thread, from the same weights, on the same tokens of 4,000 short
documents, 8 rows a step, at most 512 tokens a row:

- slipway: `slipway-trainer train` as a run starts it: rows packed by best fit decreasing, whose documents do not see
  each other
- padded: transformers' Trainer, every document a row, padded to 512
- bare: a torch loop by hand, on the very batches of slipway with the same attention: transformers' Llama, all logits,
  torch's cross entropy and AdamW, and nothing else; no checkpoint, no metrics
- trl: SFTTrainer(packing=True, packing_strategy="bfd"), in a virtual environment of its own

What counts is real tokens (no padding) per CPU-second of the training loop, model loading left out: wall clock on a
shared machine swings with the neighbours. The contenders take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

DOCUMENTS = 4000
MAX_LENGTH = 512
ROWS = 8
STEPS = {"slipway": 40, "padded": 40, "bare": 40, "trl": 20}
"""Optimizer steps that are timed. A padded step holds eight documents, so this is less data for it."""
RATE = 5e-4
TRL = "trl==1.16.0"
CONFIG = {
    "layers": 4, "hiddenSize": 128, "heads": 4, "intermediateSize": 352, "maxLength": MAX_LENGTH,
    "tokenizer": {"train": {"vocabSize": 3520}},
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- the parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-trl", action="store_true")
    parser.add_argument("--child", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure = {"slipway": slipway, "padded": padded, "bare": bare, "trl": trl}[options.child]
        result = measure(options.folder)
        result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print("RESULT " + json.dumps(result), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        compare(Path(folder), options.rounds, with_trl=not options.without_trl)


def compare(folder: Path, rounds: int, *, with_trl: bool) -> None:
    shape = make_data(folder)
    print(f"{shape['documents']} documents, {shape['tokens']} tokens, {shape['mean']:.0f} a document; 1 thread, fp32")
    pythons = dict.fromkeys(("slipway", "bare", "padded"), sys.executable)
    if with_trl:
        pythons["trl"] = trl_python()
    figures: dict[str, list[float]] = {name: [] for name in pythons}
    peaks: dict[str, float] = {}
    for number in range(1, rounds + 1):
        for name, python in pythons.items():
            result = run_child(python, name, folder)
            speed = result["tokens"] / result["cpu_seconds"]
            figures[name].append(speed)
            peaks[name] = max(peaks.get(name, 0.0), result["peak"])
            print(
                f"round {number}  {name:8} {speed:8,.0f} tokens per CPU-second, loss {result['loss']:.3f}", flush=True
            )
    middle = {name: median(values) for name, values in figures.items()}
    print(
        f"\n| trainer | real tokens per CPU-second, median of {rounds} (lowest to highest) | slipway is "
        "| peak memory, MiB |"
        "\n|---|---|---|---|"
    )
    for name, values in figures.items():
        ratio = "" if name == "slipway" else f"{middle['slipway'] / middle[name]:.2f} times as fast"
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"| {name} | {middle[name]:,.0f} ({spread}) | {ratio} | {peaks[name]:,.0f} |")


def make_data(folder: Path) -> dict[str, Any]:
    """Writes the documents, prepares them as a run does, and leaves tokens and first weights for the others."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(2, 9))) for _ in range(3000)]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    rows = (
        " ".join(draw.choices(words, weights, k=max(4, round(draw.lognormvariate(3.9, 0.6))))) for _ in range(DOCUMENTS)
    )
    text = "".join(json.dumps({"text": row}) + "\n" for row in rows)
    (folder / "documents.jsonl").write_text(text)

    from slipway_core import plan as plans
    from slipway_core.protocol.workspace import Workspace
    from slipway_core.resources.training_run import TrainingRun

    stage = {
        "name": "bench",
        "data": {"train": [{"uri": "file://documents.jsonl"}]},
        "maxLength": MAX_LENGTH,
        "steps": STEPS["slipway"],
        "batch": {"sequences": ROWS, "microSequences": ROWS},
        "precision": "FP32",
        "optimizer": {"learningRate": RATE, "schedule": "Constant", "warmupRatio": 0.0},
    }
    spec = {"model": {"scratch": CONFIG}, "stages": [stage], "checkpoints": {"everySteps": 100_000}}
    document = {"metadata": {"name": "bench", "uid": "bench-bench"}, "spec": spec}
    plan = plans.resolve(TrainingRun.model_validate(document), plans.ExecutorDefaults(folder=str(folder)))
    ws = Workspace(folder / "workspace")
    ws.root.mkdir()
    ws.plan.write_text(plan.to_json())
    step = [sys.executable, "-m", "slipway_trainer.main", "prepare", "--plan", str(ws.plan), "--attempt", "1"]
    subprocess.run(step, check=True, stdout=subprocess.DEVNULL)

    from slipway_trainer.batches.shards import Shards

    shards = Shards.open(ws.stage("bench").data("train"))
    tokens = [[int(token) for token in shards.document(i)[0]] for i in range(shards.n_documents)]
    (folder / "tokens.json").write_text(json.dumps(tokens))
    total = sum(map(len, tokens))
    return {"documents": len(tokens), "tokens": total, "mean": total / len(tokens)}


def run_child(python: str, name: str, folder: Path) -> dict[str, float]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
    }  # fmt: skip
    command = [python, str(Path(__file__).resolve()), "--child", name, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def trl_python() -> str:
    """Returns the Python of TRL's own environment, made on the first call: it asks for other versions than ours."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "slipway-bench" / TRL.replace("==", "-")
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python), TRL, "torch==2.13.0", "accelerate"]
        subprocess.run(install, check=True)
        (home / ".complete").touch()
    return str(python)


# ------------------------------------------------------------------------------------------------- the contenders


def slipway(folder: Path) -> dict[str, float]:
    import shutil

    from slipway_core import plan as plans
    from slipway_core.protocol.workspace import Workspace
    from slipway_trainer.training import loop, train

    ws = Workspace(folder / "workspace")
    stage = ws.stage("bench")
    for path in (stage.checkpoints, stage.model, stage.adapter):
        shutil.rmtree(path, ignore_errors=True)
    for path in (stage.done, stage.resolved, stage.metrics):
        path.unlink(missing_ok=True)
    taken: list[float] = []
    real = loop.Training.train

    def timed(self: loop.Training, state: Any) -> Any:
        started = time.process_time()
        ended = real(self, state)
        taken.append(time.process_time() - started)
        return ended

    loop.Training.train = timed  # type: ignore[method-assign]
    result = train.run(plans.load(ws.plan.read_text()), ws, stage="bench", attempt=1)
    return {"tokens": result.metrics["tokens"], "cpu_seconds": taken[0], "loss": result.metrics["loss"]}


def bare(folder: Path) -> dict[str, float]:
    import torch
    from torch.nn import functional

    from slipway_core import plan as plans
    from slipway_core.protocol.workspace import Workspace
    from slipway_trainer.batches import mixed_rows, row_stream
    from slipway_trainer.batches.shards import Shards
    from slipway_trainer.model import document_attention
    from slipway_trainer.tokens import tokenizer
    from slipway_trainer.training.micro_batches import MicroBatches, Windows
    from slipway_trainer.training.process_group import Ranks

    ws = Workspace(folder / "workspace")
    stage = plans.load(ws.plan.read_text()).stage("bench")
    shards = Shards.open(ws.stage("bench").data("train"))
    stream = mixed_rows.of_stage(stage, shards, shards.mixture)
    pad = int(tokenizer.load(ws).pad_token_id)  # type: ignore[arg-type]
    micro = MicroBatches(shards, MAX_LENGTH, ROWS, True, pad, Ranks())
    windows = Windows(micro, stream, row_stream.extent(stage, stream))
    steps = [windows.of_step(step) for step in range(STEPS["bare"])]
    model = _model().train()
    document_attention.register()
    model.set_attn_implementation(document_attention.CALLS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    loss, started = 0.0, time.process_time()
    for window in steps:
        (batch,) = window.batches
        logits = model(
            input_ids=batch.input_ids.view(1, -1),
            position_ids=batch.position_ids.view(1, -1),
            document_lengths=document_attention.Documents(batch.lengths),
            use_cache=False,
        ).logits[0]
        summed = functional.cross_entropy(logits[batch.predicting], batch.targets)
        summed.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss = float(summed.detach())
    taken = time.process_time() - started
    return {"tokens": sum(window.tokens for window in steps), "cpu_seconds": taken, "loss": loss}


def padded(folder: Path) -> dict[str, float]:
    import torch
    from transformers import Trainer, TrainingArguments

    documents = json.loads((folder / "tokens.json").read_text())[: ROWS * STEPS["padded"]]

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = torch.zeros((len(rows), MAX_LENGTH), dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, -100)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[index, :length] = labels[index, :length] = torch.tensor(row["input_ids"])
            mask[index, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(str(folder / "padded"), **_arguments("padded"))
    rows = [{"input_ids": document[:MAX_LENGTH]} for document in documents]
    clock = _clock()
    trainer = Trainer(_model(), arguments, train_dataset=rows, data_collator=collate, callbacks=[clock])  # type: ignore[arg-type]
    loss = trainer.train().training_loss
    return {"tokens": sum(len(row["input_ids"]) for row in rows), "cpu_seconds": clock.seconds, "loss": loss}


def trl(folder: Path) -> dict[str, float]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    documents = json.loads((folder / "tokens.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "workspace" / "tokenizer"))
    arguments = SFTConfig(
        str(folder / "trl"), packing=True, packing_strategy="bfd", max_length=MAX_LENGTH, **_arguments("trl")
    )
    clock = _clock()
    trainer = SFTTrainer(
        _model(),
        args=arguments,
        train_dataset=Dataset.from_dict({"input_ids": [document[:MAX_LENGTH] for document in documents]}),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    seen = 0
    collate = trainer.data_collator

    def counting(rows: list[dict[str, Any]]) -> Any:
        nonlocal seen
        seen += sum(len(row["input_ids"]) for row in rows)
        return collate(rows)

    trainer.data_collator = counting
    loss = trainer.train().training_loss
    return {"tokens": seen, "cpu_seconds": clock.seconds, "loss": loss}


def _arguments(name: str) -> dict[str, Any]:
    return {
        # TRL makes one long row of a micro batch, whose attention grows with its square: a row at a time is faster.
        "per_device_train_batch_size": 1 if name == "trl" else ROWS,
        "gradient_accumulation_steps": ROWS if name == "trl" else 1,
        "max_steps": STEPS[name], "learning_rate": RATE, "use_cpu": True,
        "lr_scheduler_type": "constant", "weight_decay": 0.1, "max_grad_norm": 1.0, "bf16": False, "fp16": False,
        "save_strategy": "no", "report_to": [], "logging_steps": 10, "disable_tqdm": True, "seed": 0,
        "gradient_checkpointing": False, "optim": "adamw_torch", "dataloader_num_workers": 0,
    }  # fmt: skip


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.process_time()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.process_time() - self.started

    return Clock()


def _model() -> Any:
    """Returns the model that Slipway makes of the same fields."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 352}
    return LlamaForCausalLM(
        LlamaConfig(**size, vocab_size=3520, max_position_embeddings=MAX_LENGTH, tie_word_embeddings=True)
    )


if __name__ == "__main__":
    main()
