"""Which engine judges sooner, transformers or vLLM, and from how many prompts on: both measure the same model.

    .venv/bin/python -m bench.judging_engines [--model FOLDER] [--prompts 1000] [--rounds 1] [--layers 3 --hidden 192]

The model is a folder of Hugging Face's, or a small Llama that is made here and learns to recite poems, so that its
answers end. Each engine scores the same texts and conversations and answers the same prompts, by the code with which
`evaluate` does; they take turns. Its start is the loading of the model, and for vLLM a process of its own; what both
pay (the imports of the step, its data) is not in it. Seconds depend on what else the machine does, CPU-seconds hardly
do: they are those of this process and of vLLM's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.process_usage import usage_of
from bench.samples import rows
from transformers import LlamaConfig, LlamaForCausalLM

from slipway_trainer.data.formats.turns import Turn
from slipway_trainer.data.rows import Conversation
from slipway_trainer.data.scored_conversations import Spoken
from slipway_trainer.evaluation import vllm_engine
from slipway_trainer.evaluation.engine import Engine
from slipway_trainer.evaluation.generation import Answer, Prompt
from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.model import exported_model, model_files
from slipway_trainer.tokens import tokenizer

ENGINES = ("Transformers", "vLLM")
PARTS = ("start", "texts", "conversations", "answers", "end")
ROWS, LENGTH, RATE = 8, 128, 2e-3


@dataclass
class Found:
    """What one engine took, and what it answered."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    cpu_seconds: dict[str, float] = field(default_factory=dict[str, float])
    answers: list[Answer] = field(default_factory=list[Answer])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started, used = time.monotonic(), cpu_seconds()
        yield
        self.seconds[name] = time.monotonic() - started
        self.cpu_seconds[name] = cpu_seconds() - used


@dataclass(frozen=True)
class Data:
    texts: list[str]
    conversations: list[Spoken]
    prompts: list[Prompt]


def cpu_seconds() -> float:
    """Returns what this process and its children have used, those that have ended too."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = [process.pid for process in multiprocessing.active_children()]
    alive = sum(usage_of(pid).cpu_seconds for pid in children if pid is not None)
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def chats() -> list[list[dict[str, str]]]:
    return [row["conversations"] for name in ("tang-recite", "tang-write") for row in rows(name)]


def data_of(prompts: int) -> Data:
    """Returns poems as texts, chats as conversations, and their questions, each as often as it takes."""
    asked = list(dict.fromkeys(turn["content"] for chat in chats() for turn in chat if turn["role"] == "user"))
    # A space more makes another prompt of a question that was asked before.
    numbered = [asked[at % len(asked)] + " " * (at // len(asked)) for at in range(prompts)]
    spoken = [
        Spoken(Conversation(line, tuple(Turn(**turn) for turn in chat)), f"chats.jsonl:{line}")
        for line, chat in enumerate(chats(), 1)
    ]
    return Data(
        texts=[row["text"] for name in ("tang", "tang-held-out") for row in rows(name)],
        conversations=spoken,
        prompts=[Prompt([{"role": "user", "content": text}]) for text in numbered],
    )


def make_model(folder: Path, *, layers: int, hidden: int, steps: int, dtype: torch.dtype) -> None:
    """Writes a Llama that has learned to recite: the folder must not exist."""
    torch.manual_seed(0)
    told = [text for chat in chats() for text in (turn["content"] for turn in chat)]
    words = tokenizer.train(told, vocabulary=2048, max_length=512)
    tokenizer.give_template(words, "ChatML")
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        max_position_embeddings=512,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        tie_word_embeddings=True,
    )
    model: Any = LlamaForCausalLM(config)
    texts = [str(words.apply_chat_template(chat, tokenize=False)) for chat in chats()]
    ids = [id_ for text in texts for id_ in words(text, add_special_tokens=False)["input_ids"]]
    batch_of = torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)
    optimizer, order = torch.optim.AdamW(model.parameters(), lr=RATE), torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        batch = batch_of[torch.randint(len(batch_of), (ROWS,), generator=order)]
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model_files.write_model(model.to(dtype).eval(), words, folder)


def opened(engine: str, folder: Path) -> AbstractContextManager[Engine]:
    if engine == "vLLM":
        return vllm_engine.opened(folder, "bench")
    return _transformers(folder)


@contextmanager
def _transformers(folder: Path) -> Iterator[Engine]:
    # As `evaluate` loads it on a CPU.
    yield TransformersEngine(exported_model.load(folder, dtype=torch.float32), "bench")


def measure(engine: str, folder: Path, data: Data, new_tokens: int) -> Found:
    """Measures the parts of an evaluation by one engine, each of which is left out where there is nothing of it."""
    found = Found()
    with found.part("end"):  # Of all; what the parts took is taken out below.
        context = opened(engine, folder)
        with found.part("start"):
            ours = context.__enter__()
        window = ours.score(data.texts[:1], window=None).window if data.texts else None
        if data.texts:
            with found.part("texts"):
                ours.score(data.texts, window=window)
        if data.conversations:
            with found.part("conversations"):
                ours.converse(data.conversations, window=window)
        with found.part("answers"):
            found.answers = ours.answer(data.prompts, max_new_tokens=new_tokens)
        context.__exit__(None, None, None)
    for told in (found.seconds, found.cpu_seconds):
        told["end"] -= sum(value for name, value in told.items() if name != "end")
    return found


def table(found: dict[str, list[Found]], told: dict[str, str]) -> Iterator[str]:
    """Yields the rows of a table: medians over the rounds, and how many times as fast vLLM is by CPU-seconds."""
    yield "| part | Transformers, CPU-s | s | vLLM, CPU-s | s | vLLM is |"
    yield "|---|---|---|---|---|---|"
    sums = {"all": PARTS, "all but start and end": ("texts", "conversations", "answers")}
    for name, parts in [*((part, (part,)) for part in PARTS), *sums.items()]:
        values = [_median(found[engine], which, parts) for engine in ENGINES for which in ("cpu_seconds", "seconds")]
        ratio = f"{values[0] / values[2]:.2f} times as fast" if name not in ("start", "end") and values[2] else ""
        yield f"| {told.get(name, name)} | {' | '.join(f'{value:.1f}' for value in values)} | {ratio} |"


def _median(rounds: Sequence[Found], which: str, parts: Sequence[str]) -> float:
    return median(sum(getattr(one, which).get(part, 0.0) for part in parts) for one in rounds)


def pays_from(found: dict[str, list[Found]], which: str, prompts: int) -> float | None:
    """Returns from how many prompts on vLLM pays its start, when nothing else is measured; None when it never does."""
    start = {engine: _median(found[engine], which, ("start", "end")) for engine in ENGINES}
    answers = {engine: _median(found[engine], which, ("answers",)) / prompts for engine in ENGINES}
    saved = answers["Transformers"] - answers["vLLM"]
    return (start["vLLM"] - start["Transformers"]) / saved if saved > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="A folder of Hugging Face's with a chat template; else one is made.")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--new-tokens", type=int, default=96, help="At most, of an answer.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=192, help="A multiple of 32.")
    parser.add_argument("--steps", type=int, default=200, help="That the small model learns for.")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="Of the small model's files."
    )
    parser.add_argument("--answers-only", action="store_true")
    options = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:
        # As in a step, and as vLLM is started: threads that wait sleep. It has to be there before torch is imported.
        command = [sys.executable, "-m", "bench.judging_engines", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as temporary:
        folder = options.model
        if folder is None:
            folder, dtype = Path(temporary) / "model", getattr(torch, options.dtype)
            make_model(folder, layers=options.layers, hidden=options.hidden, steps=options.steps, dtype=dtype)
        if trouble := vllm_engine.trouble(folder):
            sys.exit(f"{folder}: vLLM cannot judge it here: {trouble}")
        compare(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    data = data_of(options.prompts)
    if options.answers_only:
        data = Data([], [], data.prompts)
    measure(ENGINES[0], folder, Data([], [], data.prompts[:2]), 2)  # What is imported at the first use counts for none.
    found: dict[str, list[Found]] = {engine: [] for engine in ENGINES}
    for number in range(options.rounds):
        for engine in sorted(ENGINES, reverse=bool(number % 2)):
            found[engine].append(measure(engine, folder, data, options.new_tokens))
            print(f"round {number + 1}, {engine}: {sum(found[engine][-1].cpu_seconds.values()):.1f} CPU-s", flush=True)
    mine, theirs = (found[engine][0].answers for engine in ENGINES)
    told = {
        "texts": f"{len(data.texts)} texts",
        "conversations": f"{len(data.conversations)} conversations",
        "answers": f"{len(data.prompts)} answers of {sum(one.tokens for one in mine) / len(mine):.0f} tokens",
    }
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{size / 2**20:.1f} MiB of weights")
    print("\n".join(table(found, told)))
    same = sum(a.text == b.text for a, b in zip(mine, theirs, strict=True))
    print(f"{same} of {len(mine)} answers are the same ({same / len(mine):.1%})")
    for which, unit in (("cpu_seconds", "CPU-seconds"), ("seconds", "seconds")):
        prompts = pays_from(found, which, len(mine))
        print(f"by {unit} vLLM pays its start {'never' if prompts is None else f'from {prompts:.0f} prompts on'}")


if __name__ == "__main__":
    main()
