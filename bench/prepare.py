"""How fast `prepare` is beside the tokenizer itself, how much memory it takes, and how soon a preview is there.

    .venv/bin/python -m bench.prepare [--megabytes 100] [--rounds 3] [--memory 10,100,2000] [--preview 100]

The text is that of the Python files of this environment, a file a row, as often as it takes. Two tokenizers are trained
on it first: ours, and one whose pieces are cut as Llama 3 cuts them. For each, in turns:

- encode_batch: one process, all cores: `Tokenizer.encode_batch_fast` on the same rows, already read and in memory.
  Nothing else is counted.
- prepare: all of `slipway-trainer prepare` but the start of Python and its imports: reading, hashing, checking every
  row, looking for held-out text, tokenising, and writing shards with their digests.

What counts is text per second of wall time on the same cores; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.process_usage import usage_of

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
_BETWEEN = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3 = f"{_WORDS}|{_BETWEEN}"
"""How Llama 3 cuts text before its merges, as its tokenizer.json says."""
VOCABULARY = {"ours": 8000, "llama-3": 32000}
LONGEST_ROW = 20_000
BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="10,100,1000", help="Megabytes at which memory is measured.")
    parser.add_argument("--preview", type=int, default=100, help="Megabytes that are previewed.")
    parser.add_argument("--child", choices=["encode_batch", "prepare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tokenizer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure = {"encode_batch": encode_batch, "prepare": prepare}[options.child]
        print("RESULT " + json.dumps(measure(options.folder, options.tokenizer)), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        make_tokenizers(folder)
        if options.megabytes:
            compare(folder, options.megabytes, options.rounds)
        if options.memory:
            memory(folder, [int(size) for size in options.memory.split(",")])
        if options.preview:
            waiting(folder, options.preview)


def compare(folder: Path, megabytes: int, rounds: int) -> None:
    size = write_text(folder, megabytes)
    print(f"{size / 1e6:.0f} MB of text on {os.cpu_count()} cores")
    speeds: dict[tuple[str, str], list[float]] = {}
    for number in range(1, rounds + 1):
        for tokenizer in VOCABULARY:
            for contender in ("encode_batch", "prepare"):
                result = run_child(contender, folder, tokenizer)
                speed = size / 1e6 / result["seconds"]
                speeds.setdefault((tokenizer, contender), []).append(speed)
                print(f"round {number}  {tokenizer:8} {contender:13} {speed:6.2f} MB/s, {result['tokens']:,} tokens")
    print("\n| tokenizer | encode_batch, MB/s | prepare, MB/s | ratio |\n|---|---|---|---|")
    for tokenizer in VOCABULARY:
        own, whole = (median(speeds[tokenizer, contender]) for contender in ("encode_batch", "prepare"))
        print(f"| {tokenizer} | {own:.2f} | {whole:.2f} | {whole / own:.2f} |")


def memory(folder: Path, sizes: Sequence[int]) -> None:
    print("\n| text, MB | peak memory of prepare with its processes, MB |\n|---|---|")
    for megabytes in sizes:
        write_text(folder, megabytes)
        peak = peak_of(folder)
        print(f"| {megabytes} | {peak:.0f} |", flush=True)


def waiting(folder: Path, megabytes: int) -> None:
    write_text(folder, megabytes)
    slipway = str(Path(sys.executable).with_name("slipway"))
    print("\n| command | seconds, best of three |\n|---|---|")
    for name, command in (
        (f"slipway preview, {megabytes} MB", [slipway, "preview", str(folder / "run.yaml"), "--device", "H100"]),
        ("slipway --help", [slipway, "--help"]),
    ):
        print(f"| {name} | {min(seconds_of(command) for _ in range(3)):.2f} |")


def seconds_of(command: Sequence[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


# ------------------------------------------------------------------------------------------------------- the data


def documents() -> Iterator[str]:
    """Yields the text of this environment's Python files, in pieces of the length of long documents."""
    root = Path(json.__file__).parents[1]
    while True:
        for path in sorted(root.rglob("*.py")):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            yield from (text[start : start + LONGEST_ROW] for start in range(0, len(text), LONGEST_ROW))


def write_text(folder: Path, megabytes: int) -> int:
    """Writes rows of text, and the file of a run on them. Returns the bytes of the text."""
    size = 0
    with (folder / "text.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(documents()):
            if not text.strip() or "\0" in text:
                continue
            # Numbered, so that no row says the same as another.
            row = f"{number}\n{text}"
            file.write(json.dumps({"text": row}) + "\n")
            size += len(row.encode())
            if size >= megabytes * 1_000_000:
                break
    (folder / "run.yaml").write_text(json.dumps(document_of(folder, "ours")))
    return size


def document_of(folder: Path, tokenizer: str) -> dict[str, Any]:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "bench"},
        "spec": {
            "model": {"scratch": {"maxLength": 2048, "tokenizer": {"from": f"file://{folder / tokenizer}"}}},
            "stages": [{"name": "read", "data": {"train": [{"uri": "file://text.jsonl"}]}, "maxLength": 2048}],
        },
    }


def make_tokenizers(folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from slipway_trainer.tokens import tokenizer as ours

    texts = [text for _, text in zip(range(4000), documents(), strict=False)]
    ours.save(ours.train(texts, vocabulary=VOCABULARY["ours"], max_length=2048), folder / "ours")
    shaped: Any = Tokenizer(models.BPE())
    shaped.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    shaped.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    shaped.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY["llama-3"],
            special_tokens=["<|end_of_text|>"],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    words = PreTrainedTokenizerFast(tokenizer_object=shaped, eos_token="<|end_of_text|>")
    ours.save(words, folder / "llama-3")


# --------------------------------------------------------------------------------------------------- the contenders


def run_child(contender: str, folder: Path, tokenizer: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.prepare", "--child", contender, "--folder", str(folder)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(
        [*command, "--tokenizer", tokenizer], env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{contender} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def encode_batch(folder: Path, name: str) -> dict[str, float]:
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
    rows = [json.loads(line)["text"] for line in (folder / "text.jsonl").open(encoding="utf-8")]
    started, tokens = time.monotonic(), 0
    for start in range(0, len(rows), BATCH):
        tokens += sum(len(found.ids) for found in words.encode_batch_fast(rows[start : start + BATCH]))
    return {"seconds": time.monotonic() - started, "tokens": tokens}


def prepare(folder: Path, name: str) -> dict[str, float]:
    from slipway_trainer.step import startup

    startup.prepare_process()
    from slipway_core.plan import ExecutorDefaults, resolve
    from slipway_core.protocol.workspace import Workspace
    from slipway_core.resources.training_run import TrainingRun
    from slipway_trainer.prepare import prepare as step

    made = TrainingRun.model_validate(document_of(folder, name), by_alias=True, by_name=False)
    plan = resolve(made, ExecutorDefaults(folder=str(folder)), uid="bench-bench")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        started = time.monotonic()
        step.run(plan, Workspace(Path(place)), attempt=1, say=lambda line: None)
        seconds = time.monotonic() - started
        report = json.loads((Path(place) / "prepare.json").read_text())
    return {"seconds": seconds, "tokens": report["stages"]["read"]["train"]["tokens"]}


def peak_of(folder: Path) -> float:
    """Returns the most memory that prepare and its processes held at once, in megabytes, as often as one looks."""
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_silent_prepare, args=(folder,))
    child.start()
    peak = 0.0
    while child.is_alive():
        peak = max(peak, sum(_resident(pid) for pid in _family(child.pid or 0)))
        time.sleep(0.1)
    if child.exitcode:
        sys.exit("prepare failed")
    return peak


def _silent_prepare(folder: Path) -> None:
    prepare(folder, "ours")


def _resident(pid: int) -> float:
    try:
        return usage_of(pid).megabytes
    except FileNotFoundError:
        return 0.0


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return
    for child in children:
        yield from _family(int(child))


if __name__ == "__main__":
    main()
