"""Checks and measures the trainer on one GPU, within a few minutes.

    bench/gpu/check.sh [--minutes 8] [--out FOLDER]            # on a host without a network; or, in .venv:
    .venv/bin/python -m bench.gpu.check --device cpu --tiny    # all of it with tiny models, to see that it runs

Parts take turns, each in a process of its own with a share of the time: whether packed rows, the loss in parts, a
resumed training, fp16 and what else may not change a result compute what they should; the steps of the quickstart, and
its model judged with and without the GPU; how fast a 0.35B and a 1.2B Llama of random weights train, all
weights and LoRA, rows of 2,048 and 8,192, by Slipway, by a bare torch loop on the same batches with the same attention,
and by transformers' Trainer; peak memory beside the estimate; how long a checkpoint stops the training. What no longer
fits into the time is left out and named. The tables go to stdout, and check.md and check.json into the folder.

Ends with 1 when a check fails or something could not be measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.gpu import report
from bench.gpu.budget import Budget, share
from bench.gpu.sizes import FULL, TINY, Extent

SHARES = {"correctness": 0.18, "quickstart": 0.22, "speed-0": 0.22, "speed-1": 0.32, "checkpoints": 0.06}
"""Of the time; speed-N is that of the shape of this number."""
GRACE = 20.0
"""Seconds beyond its share after which a part is ended: it looks at the clock between two pieces alone."""
NEEDED = ("torch", "transformers", "peft", "accelerate", "deepspeed", "pydantic", "prometheus_client", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-check")))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="Tiny models and few steps.")
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES), metavar="PART")
    parser.add_argument("--part", choices=list(SHARES), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--machine", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    extent = TINY if options.tiny else FULL
    if options.part:
        if options.machine:
            from bench.gpu import parts

            parts.say("machine", parts.machine())
        do_part(options.part, extent, options.folder, Budget(options.seconds))
        return
    _require(options.device)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipway-gpu-") as folder:
        rows = list(_all_parts(options, extent, Path(folder), started + 60 * options.minutes))
    seconds = time.monotonic() - started
    machine = next((row for row in rows if row["kind"] == "machine"), {})
    text = report.markdown(machine, rows, seconds)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "check.md").write_text(text)
    (options.out / "check.json").write_text(json.dumps({"seconds": seconds, "rows": rows}, indent=1) + "\n")
    sys.exit(0 if report.passed(rows) else 1)


def do_part(part: str, extent: Extent, folder: Path, budget: Budget) -> None:
    from bench.gpu import parts

    if part == "correctness":
        parts.check_correctness(folder, budget)
    elif part == "quickstart":
        parts.take_quickstart(extent, folder, budget)
    elif part == "checkpoints":
        parts.measure_stall(extent.shapes[0], extent, budget)
    else:
        parts.measure_speed(extent.shapes[int(part.removeprefix("speed-"))], extent, folder, budget)


def _all_parts(options: argparse.Namespace, extent: Extent, folder: Path, end: float) -> Iterator[dict[str, Any]]:
    shapes = [f"speed-{number}" for number in range(len(extent.shapes))]
    others = ("correctness", "quickstart", "checkpoints")
    left = {part: size for part, size in SHARES.items() if part in (*others, *shapes) and part in options.parts}
    first = next(iter(left))
    while left:
        part = next(iter(left))
        seconds = share(end - time.monotonic() - GRACE, list(left.values()))
        del left[part]
        print(f"{part}: {seconds:.0f} s", file=sys.stderr, flush=True)
        place = folder / part
        place.mkdir()
        # What it is measured on is told once: to find it out takes the libraries.
        yield from _part(part, options, place, seconds, *(["--machine"] if part == first else []))


def _part(part: str, options: argparse.Namespace, folder: Path, seconds: float, *more: str) -> Iterator[dict[str, Any]]:
    """Yields what a part says. One that crashes or does not end in time is said, and what it said before stays."""
    command = [sys.executable, "-m", "bench.gpu.check", "--part", part, "--folder", str(folder)]
    command += ["--seconds", str(seconds), *(["--tiny"] if options.tiny else []), *more]
    process = subprocess.Popen(command, env=_environment(options.device), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    timer = threading.Timer(max(0.0, seconds) + GRACE, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith("RESULT "):
                row = json.loads(line.removeprefix("RESULT "))
                print(f"  {json.dumps(row)}", file=sys.stderr, flush=True)
                yield row
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    if code:
        why = "did not end in time" if code == -9 else f"ended with {code}"
        yield {"kind": "broken", "part": part, "why": why}
        yield {"kind": "left out", "what": f"the rest of {part}: it {why} (stderr has more)"}


def _environment(device: str) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "DS_BUILD_OPS": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        # One alone: with several the Trainer would use them all.
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
        # Threads that wait for each other are slower than one, with models this small.
        **({"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if device == "cpu" else {}),
    }


def _require(device: str) -> None:
    """Ends with what is missing, before any time is spent."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"bench/gpu/check: {', '.join(missing)}: not installed. Run `make gpu-pack` where there is a network, "
            "bring its folder along, and start bench/gpu/check.sh"
        )
    if device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("bench/gpu/check: torch sees no GPU here. --device cpu --tiny shows that everything runs without one")


if __name__ == "__main__":
    main()
