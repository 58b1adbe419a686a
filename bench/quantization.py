"""What a quantised export costs: its size, and how much worse it predicts and recites, judged as it would be served.

    .venv/bin/python -m bench.quantization [--run examples/quickstart.yaml] [--folder FOLDER] [--set FIELD=VALUE]

The run is prepared and trained once (a folder that is named is kept, and used again), and exported and evaluated as it
is and with every quantisation. `export.quantization` alone differs, so all figures are of the same weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from slipway_core import plan as plans
from slipway_core.documents.loading import load_run
from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.workspace import Workspace

QUANTIZATIONS = ("None", "INT8", "FP8", "INT4")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("examples/quickstart.yaml"))
    parser.add_argument("--folder", type=Path, help="Workspace that is kept.")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="Of the run; repeatable.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        workspace = Workspace((options.folder or Path(name)).resolve())
        train(plan_of(options.run, options.set), workspace)
        compare(options.run, options.set, workspace)


def plan_of(file: Path, overrides: Sequence[str]) -> Plan:
    """Returns the plan of a run without anything to serve."""
    run = load_run(file.read_text(encoding="utf-8"), str(file), overrides=overrides)
    spec = run.spec.model_copy(update={"serving": None})
    defaults = plans.ExecutorDefaults(folder=str(file.parent))
    return plans.resolve(run.model_copy(update={"spec": spec}), defaults, uid="bench")


def train(plan: Plan, workspace: Workspace) -> None:
    """Leaves every stage ended."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.plan.write_text(plan.to_json(), encoding="utf-8")
    if not workspace.prepared.exists():
        _step(workspace, "prepare")
    for stage in plan.stages:
        if not workspace.stage(stage.name).done.exists():
            _step(workspace, "train", "--stage", stage.name)


def compare(file: Path, overrides: Sequence[str], workspace: Workspace) -> None:
    from slipway_trainer import export
    from slipway_trainer.evaluation import evaluate

    attempt = len(list(workspace.root.glob("evaluation/*")))
    rows = ["| quantization | weights, MiB | bits per byte | divergence, nats | recited |", "|---|---|---|---|---|"]
    for wanted in QUANTIZATIONS:
        attempt += 1
        own = plan_of(file, [*overrides, f"export.quantization={wanted}"])
        export.run(own, workspace, attempt=attempt)
        told = artifact.read(workspace.artifact).lineage.get("quantization", {})
        size = sum(path.stat().st_size for path in workspace.artifact.glob("*.safetensors"))
        found = evaluate.run(own, workspace, attempt=attempt).metrics
        rows.append(
            f"| {wanted} | {size / 2**20:.2f} | {found['bits_per_byte']:.4f} | {told.get('divergence', 0):.4f} | "
            f"{found.get('recall_count', 0):.0f} |"
        )
        print(rows[-1], flush=True)
    print("\n".join(rows))


def _step(workspace: Workspace, *words: str) -> None:
    command = [str(Path(sys.executable).with_name("slipway-trainer")), *words]
    subprocess.run([*command, "--plan", str(workspace.plan), "--attempt", "1"], check=True)


if __name__ == "__main__":
    main()
