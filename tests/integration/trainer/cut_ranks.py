"""Builds the models of runs in pieces, as one of two ranks: `python cut_ranks.py RANK STORE RESULTS RUN…`.

What is found goes to RESULTS as JSON, by the run's folder: how much memory the build took, and, with a dtype before a
colon in front of the run, which weights are others than those of the model that is built whole.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from slipway_core import plan as plans
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.step import startup
from slipway_trainer.training.process_group import Ranks


class Peak:
    """The largest memory of this process's own (what a file is mapped to is none of it), in bytes above the start."""

    def __enter__(self) -> "Peak":
        self.start = self.most = _own_memory()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._stop.wait(0.002):
            self.most = max(self.most, _own_memory())


def _own_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def build(run: str) -> dict[str, Any]:
    from slipway_trainer.batches.shards import Shards
    from slipway_trainer.model import stage_model
    from slipway_trainer.model.pieces import Pieces
    from slipway_trainer.training import deepspeed_engine

    name, _, root = run.rpartition(":")
    dtype = getattr(torch, name or "float32")
    workspace = Workspace(Path(root))
    plan = plans.load(workspace.plan.read_text())
    stage = plan.stages[-1].name
    device = torch.device("cpu")
    config = deepspeed_engine.configuration(
        precision="BF16" if dtype == torch.bfloat16 else "FP32",
        zero_stage=3,
        micro_batch=1,
        max_grad_norm=0.0,
        world=2,
    )
    tokens = Shards.open(workspace.stage(stage).data("train")).tokens

    def load(pieces: Pieces | None) -> Any:
        return stage_model.load_for_stage(
            plan, workspace, stage, device=device, dtype=dtype, tokens=tokens, pieces=pieces
        )

    pieces = Pieces(config, device, dtype)
    with Peak() as peak:
        cut = load(pieces)
    from slipway_trainer.model.pieces import size_of

    weights = sum(map(size_of, cut.parameters())) * dtype.itemsize
    found = {"bytes": weights, "peak": peak.most - peak.start}
    return found | ({"others": others(cut, load(None), dtype)} if name else {})


def others(cut: Any, whole: Any, dtype: torch.dtype) -> list[str]:
    """Returns the names of what is not the same in both, or not tied in the same way."""
    from slipway_trainer.model.document_probe import _logits
    from slipway_trainer.model.pieces import gathered, whole_while_called

    mine, wanted = (dict(model.named_parameters(remove_duplicate=False)) for model in (cut, whole))
    assert mine.keys() == wanted.keys()
    found = [name for name in mine if not hasattr(mine[name], "ds_id")]
    for name, weight in mine.items():
        with gathered([weight]):
            same = torch.equal(weight.detach(), wanted[name].detach().to(dtype))
        tied = [other for other in mine if mine[other] is weight]
        if not same or tied != [other for other in mine if wanted[other] is wanted[name]]:
            found.append(name)
        if weight.requires_grad != wanted[name].requires_grad:
            found.append(f"{name} is trained")
    mine, wanted = dict(cut.named_buffers()), dict(whole.named_buffers())
    assert mine.keys() == wanted.keys()
    found += [n for n in mine if mine[n].dtype != wanted[n].dtype or not torch.equal(mine[n], wanted[n])]
    if dtype == torch.float32:
        row = [torch.arange(16)]
        with torch.no_grad(), whole_while_called(cut):
            logits = _logits(cut.eval(), row, packed=False)
            if not torch.equal(logits, _logits(whole.eval(), row, packed=False)):
                found.append("logits")
    return found


def main(rank: int, store: str, results: str, runs: list[str]) -> None:
    startup.prepare_process()
    from slipway_trainer.training import process_group

    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    process_group.connect(Ranks(rank=rank, world=2, local_rank=rank, local_world=2))
    Path(results).write_text(json.dumps({run.rpartition(":")[2]: build(run) for run in runs}))
    sys.stdout.flush()
    # ZeRO-3 on gloo aborts in one of five normal exits.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
