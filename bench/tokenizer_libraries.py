"""How fast other libraries encode what our tokenizers encode, and whether they give the same tokens.

    .venv/bin/python -m bench.tokenizer_libraries [--megabytes 20] [--rounds 3]

Two tokenizers are trained on the Python files of this environment: ours, and one whose pieces are cut as Llama 3 cuts
them. Each library encodes the same rows with all cores, in turns, in an environment of its own. The first time, the
tokens of every row are held against those of `tokenizers`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

LIBRARIES = ("tokenizers", "tiktoken", "tokie")
VERSIONS = ("tokenizers==0.23.3", "tiktoken==0.14.0", "tokie==0.1.4")
BATCH = 1000
GPT_2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How a byte-level tokenizer cuts text before its merges, where nothing else is said."""

Encode = Callable[[list[str]], list[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tokenizer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT " + json.dumps(measure(options.child, options.folder, options.tokenizer)), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        compare(Path(folder), options.megabytes, options.rounds)


def compare(folder: Path, megabytes: int, rounds: int) -> None:
    from bench.prepare import VOCABULARY, make_tokenizers, write_text

    make_tokenizers(folder)
    size = write_text(folder, megabytes)
    python = own_python()
    for tokenizer in VOCABULARY:
        speeds: dict[str, list[float]] = {name: [] for name in LIBRARIES}
        digests: dict[str, str] = {}
        for _ in range(rounds):
            for name in LIBRARIES:
                result = run_child(python, name, folder, tokenizer)
                speeds[name].append(size / 1e6 / result["seconds"])
                digests[name] = result["digest"]
        own = median(speeds["tokenizers"])
        print(f"\n{tokenizer}, {size / 1e6:.0f} MB of text on {os.cpu_count()} cores\n")
        print("| library | MB/s, median (lowest to highest) | times as fast | the same tokens |\n|---|---|---|---|")
        for name, found in speeds.items():
            same = "yes" if digests[name] == digests["tokenizers"] else "no"
            print(
                f"| {name} | {median(found):.2f} ({min(found):.2f} to {max(found):.2f}) | {median(found) / own:.1f} | "
                f"{same} |",
                flush=True,
            )


def own_python() -> str:
    """Returns the Python of an environment with the libraries, made on the first call."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "slipway-bench" / "-".join(VERSIONS).replace("==", "-")
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *VERSIONS], check=True)
        (home / ".complete").touch()
    return str(python)


def run_child(python: str, name: str, folder: Path, tokenizer: str) -> dict[str, Any]:
    command = [python, str(Path(__file__).resolve()), "--child", name, "--folder", str(folder)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(
        [*command, "--tokenizer", tokenizer], env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def measure(name: str, folder: Path, tokenizer: str) -> dict[str, Any]:
    """Returns seconds, and a digest of all tokens."""
    path = folder / tokenizer / "tokenizer.json"
    encode = {"tokenizers": _tokenizers, "tiktoken": _tiktoken, "tokie": _tokie}[name](path)
    rows = [json.loads(line)["text"] for line in (folder / "text.jsonl").open(encoding="utf-8")]
    digest, seconds = hashlib.sha256(), 0.0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        started = time.monotonic()
        found = encode(batch)
        seconds += time.monotonic() - started
        for ids in found:
            digest.update(json.dumps(list(getattr(ids, "ids", ids))).encode())
    return {"seconds": seconds, "digest": digest.hexdigest()}


def _tokenizers(path: Path) -> Encode:
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(path))
    return lambda rows: words.encode_batch_fast(rows, add_special_tokens=False)


def _tiktoken(path: Path) -> Encode:
    import tiktoken  # pyright: ignore[reportMissingImports]

    document = json.loads(path.read_text())
    special = {token["content"]: token["id"] for token in document["added_tokens"]}
    # A merged word has the rank of its merge: a vocabulary that was trained is in that order.
    plain = {_bytes(word): id_ for word, id_ in document["model"]["vocab"].items() if word not in special}
    cut = document["pre_tokenizer"].get("pretokenizers", [{}])[0].get("pattern", {}).get("Regex", GPT_2)
    encoding = tiktoken.Encoding("bench", pat_str=cut, mergeable_ranks=plain, special_tokens=special)
    threads = os.cpu_count() or 1
    return lambda rows: encoding.encode_ordinary_batch(rows, num_threads=threads)


def _tokie(path: Path) -> Encode:
    import tokie  # pyright: ignore[reportMissingImports]

    words = tokie.Tokenizer.from_json(str(path))
    return lambda rows: words.encode_batch(rows, add_special_tokens=False)


def _bytes(word: str) -> bytes:
    """Returns the bytes that a byte-level tokenizer writes as these characters (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    return bytes(table[character] for character in word)


if __name__ == "__main__":
    main()
