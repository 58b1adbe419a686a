"""How fast Slipway trains on short documents, beside a plain transformers Trainer, TRL's SFTTrainer with packing, and a
bare torch loop.

    make bench                     # or: .venv/bin/python -m bench.train_throughput [--rounds 3] [--without-trl]
    make bench BENCH_ARGS='--vocabulary 152000 --steps 4'        # an output layer as large as those of today
    make bench BENCH_ARGS='--row 2048 --steps 10'                # longer rows, and documents

All train the same 1.25M-parameter Llama in fp32 on one thread, from the same weights, on the same tokens of 4,000 short
documents, 8 rows a step, at most 512 tokens a row:

- slipway: `slipway-trainer train` as a run starts it: rows packed by best fit decreasing, whose documents do not see
  each other
- padded: transformers' Trainer, every document a row, padded to the width of a row
- bare: a torch loop by hand, on the very batches of slipway with the same attention: transformers' Llama, all logits,
  torch's cross entropy and AdamW, and nothing else; no checkpoint, no metrics
- trl: SFTTrainer(packing=True, packing_strategy="bfd"), in a virtual environment of its own
- llamafactory (--with-llama-factory): LLaMA-Factory's SFT with neat_packing, which without FlashAttention tells
  documents apart by a mask; in an environment of its own

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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import peer_environments

DOCUMENTS = 4000
ROWS = 8
CONTENDERS = ("slipway", "bare", "padded", "trl", "llamafactory")
RATE = 5e-4
WORDS = 3520
"""Entries of the tokenizer. More than that are rows of the output layer alone, which cost what they would anyway."""


@dataclass(frozen=True)
class Shape:
    """What is trained, and on how much."""

    vocabulary: int
    row: int
    """Tokens of a row; documents are longer in longer rows."""
    steps: int
    """Optimizer steps that are timed; of TRL and LLaMA-Factory half. A padded step holds eight documents, so this is
    less data for it."""

    @property
    def config(self) -> dict[str, Any]:
        return {
            "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 352,
            "vocab_size": self.vocabulary, "max_position_embeddings": self.row, "tie_word_embeddings": True,
        }  # fmt: skip

    def steps_of(self, contender: str) -> int:
        return max(1, self.steps // 2) if contender in ("trl", "llamafactory") else self.steps


# ------------------------------------------------------------------------------------------------------- the parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=WORDS, help="Rows of the output layer.")
    parser.add_argument("--row", type=int, default=512, help="Tokens of a row.")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--without-trl", action="store_true")
    parser.add_argument("--with-llama-factory", action="store_true", help="Installs it (3 GiB) on the first call.")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = Shape(options.vocabulary, options.row, options.steps)
    if options.child:
        measures = {"slipway": slipway, "padded": padded, "bare": bare, "trl": trl, "llamafactory": llama_factory}
        result = measures[options.child](options.folder, shape)
        result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print("RESULT " + json.dumps(result), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        peers = {} if options.without_trl else {"trl": peer_environments.TRL}
        if options.with_llama_factory:
            peers["llamafactory"] = peer_environments.LLAMA_FACTORY
        compare(Path(folder), shape, options.rounds, peers)


def compare(folder: Path, shape: Shape, rounds: int, peers: dict[str, str]) -> None:
    """
    Args:
        peers: what is installed for a contender that has an environment of its own.
    """
    data = make_data(folder, shape)
    print(
        f"{data['documents']} documents, {data['tokens']} tokens, {data['mean']:.0f} a document, in rows of "
        f"{shape.row}; {shape.vocabulary:,} words; 1 thread, fp32"
    )
    pythons = dict.fromkeys(("slipway", "bare", "padded"), sys.executable)
    pythons |= {name: peer_environments.python(peer) for name, peer in peers.items()}
    figures: dict[str, list[float]] = {name: [] for name in pythons}
    peaks: dict[str, float] = {}
    for number in range(1, rounds + 1):
        for name, python in pythons.items():
            result = run_child(python, name, folder, shape)
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


def make_data(folder: Path, shape: Shape) -> dict[str, Any]:
    """Writes documents and a model of random weights, and prepares them as a run does; leaves tokens for the others."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(2, 9))) for _ in range(3000)]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    longer = shape.row / 512
    rows = [
        " ".join(draw.choices(words, weights, k=max(4, round(longer * draw.lognormvariate(3.9, 0.6)))))
        for _ in range(round(DOCUMENTS / longer))
    ]
    (folder / "documents.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    make_base(folder / "base", shape, rows)

    from slipway_core import plan as plans
    from slipway_core.protocol.workspace import Workspace
    from slipway_core.resources.training_run import TrainingRun

    stage = {
        "name": "bench",
        "data": {"train": [{"uri": "file://documents.jsonl"}]},
        "maxLength": shape.row,
        "steps": shape.steps,
        "batch": {"sequences": ROWS, "microSequences": ROWS},
        "precision": "FP32",
        "memory": {"gradientCheckpointing": "Disabled"},
        "optimizer": {"learningRate": RATE, "schedule": "Constant", "warmupRatio": 0.0},
    }
    spec = {"model": {"from": "file://base"}, "stages": [stage], "checkpoints": {"everySteps": 100_000}}
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


def make_base(folder: Path, shape: Shape, texts: list[str]) -> None:
    """Writes the model that all of them train, with a tokenizer of its data."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from slipway_trainer.tokens import tokenizer

    tokenizer.save(tokenizer.train(texts, vocabulary=WORDS, max_length=shape.row), folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape.config)).save_pretrained(str(folder))


def run_child(python: str, name: str, folder: Path, shape: Shape) -> dict[str, float]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }  # fmt: skip
    command = [python, "-m", "bench.train_throughput", "--child", name, "--folder", str(folder)]
    command += ["--vocabulary", str(shape.vocabulary), "--row", str(shape.row), "--steps", str(shape.steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


# ------------------------------------------------------------------------------------------------- the contenders


def slipway(folder: Path, shape: Shape) -> dict[str, float]:
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


def bare(folder: Path, shape: Shape) -> dict[str, float]:
    import torch
    from bench import stage_windows
    from torch.nn import functional

    from slipway_core import plan as plans
    from slipway_core.protocol.workspace import Workspace
    from slipway_trainer.model import document_attention

    ws = Workspace(folder / "workspace")
    plan = plans.load(ws.plan.read_text())
    windows = stage_windows.of_stage(plan, ws, "bench", micro_batch=ROWS)
    steps = [windows.of_step(step) for step in range(shape.steps_of("bare"))]
    model = _model(folder).train()
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


def padded(folder: Path, shape: Shape) -> dict[str, float]:
    import torch
    from transformers import Trainer, TrainingArguments

    documents = json.loads((folder / "tokens.json").read_text())[: ROWS * shape.steps_of("padded")]

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = torch.zeros((len(rows), shape.row), dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, -100)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[index, :length] = labels[index, :length] = torch.tensor(row["input_ids"])
            mask[index, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(str(folder / "padded"), **_arguments("padded", shape))
    rows = [{"input_ids": document[: shape.row]} for document in documents]
    clock = _clock()
    trainer = Trainer(_model(folder), arguments, train_dataset=rows, data_collator=collate, callbacks=[clock])  # type: ignore[arg-type]
    loss = trainer.train().training_loss
    return {"tokens": sum(len(row["input_ids"]) for row in rows), "cpu_seconds": clock.seconds, "loss": loss}


def trl(folder: Path, shape: Shape) -> dict[str, float]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    documents = json.loads((folder / "tokens.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "workspace" / "tokenizer"))
    arguments = SFTConfig(
        str(folder / "trl"), packing=True, packing_strategy="bfd", max_length=shape.row, **_arguments("trl", shape)
    )
    clock = _clock()
    trainer = SFTTrainer(
        _model(folder),
        args=arguments,
        train_dataset=Dataset.from_dict({"input_ids": [document[: shape.row] for document in documents]}),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    seen: list[int] = []
    collate = trainer.data_collator

    def counting(rows: list[dict[str, Any]]) -> Any:
        seen.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counting
    loss = trainer.train().training_loss
    # One batch more is made ahead.
    return {"tokens": sum(seen[: ROWS * shape.steps_of("trl")]), "cpu_seconds": clock.seconds, "loss": loss}


def llama_factory(folder: Path, shape: Shape) -> dict[str, float]:
    from llamafactory.data.collator import SFTDataCollatorWith4DAttentionMask
    from llamafactory.train.tuner import run_exp

    data = folder / "llamafactory"
    data.mkdir(exist_ok=True)
    texts = [json.loads(line)["text"] for line in (folder / "documents.jsonl").read_text().splitlines()]
    # It leaves out a row without a prompt; a word is one, and learned like the others.
    rows = [{"instruction": text.split()[0], "input": "", "output": text} for text in texts]
    (data / "documents.json").write_text(json.dumps(rows))
    (data / "dataset_info.json").write_text(json.dumps({"documents": {"file_name": "documents.json"}}))
    seen: list[int] = []
    collate = SFTDataCollatorWith4DAttentionMask.__call__

    def counting(self: Any, features: list[dict[str, Any]]) -> Any:
        # A document has its number in the mask, padding has 0.
        seen.append(sum(number > 0 for row in features for number in row["attention_mask"]))
        return collate(self, features)

    SFTDataCollatorWith4DAttentionMask.__call__ = counting  # type: ignore[method-assign]
    clock = _clock()
    arguments = _arguments("llamafactory", shape) | {
        "stage": "sft", "do_train": True, "finetuning_type": "full", "model_name_or_path": str(folder / "base"),
        "dataset": "documents", "dataset_dir": str(data), "template": "empty", "train_on_prompt": True,
        "neat_packing": True, "packing": True, "cutoff_len": shape.row, "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True, "output_dir": str(data / "out"), "overwrite_cache": True,
        "preprocessing_num_workers": 1,
    }  # fmt: skip
    del arguments["gradient_checkpointing"]
    run_exp(arguments, callbacks=[clock])
    loss = json.loads((data / "out" / "train_results.json").read_text())["train_loss"]
    # One batch more is made ahead.
    return {"tokens": sum(seen[: shape.steps_of("llamafactory")]), "cpu_seconds": clock.seconds, "loss": loss}


def _arguments(name: str, shape: Shape) -> dict[str, Any]:
    return {
        # TRL makes one long row of a micro batch, whose attention grows with its square: a row at a time is faster.
        "per_device_train_batch_size": 1 if name == "trl" else ROWS,
        "gradient_accumulation_steps": ROWS if name == "trl" else 1,
        "max_steps": shape.steps_of(name), "learning_rate": RATE, "use_cpu": True,
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


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder / "base"), dtype=torch.float32)


if __name__ == "__main__":
    main()
