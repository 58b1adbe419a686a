"""Trains runs as one of two ranks: `two_ranks.py RANK STORE RUN…`, each run to its end before the next."""

import os
import sys
from pathlib import Path

import torch

from slipway_core import plan as plans
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.step import startup
from slipway_trainer.step.signals import StopFlag
from slipway_trainer.training.process_group import Ranks


def main(rank: int, store: str, runs: list[str]) -> None:
    startup.prepare_process()
    from slipway_trainer.training.stage import train_stage

    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for run in runs:
        workspace = Workspace(Path(run))
        plan = plans.load(workspace.plan.read_text())
        ranks = Ranks(rank=rank, world=2, local_rank=rank, local_world=2)
        attempt = int(workspace.fence("pretrain").read_text()) if workspace.fence("pretrain").exists() else 1
        train_stage(plan, workspace, stage="pretrain", attempt=attempt, ranks=ranks, stop=StopFlag())
    sys.stdout.flush()
    # ZeRO-3 on gloo aborts in one of five normal exits.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
