"""What a checkpoint is refused for."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from slipway_trainer.step.errors import BadCheckpoint
from slipway_trainer.training.checkpoints import checkpoint_files, resume
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.process_group import Ranks


def test_weights_of_a_version_that_trained_others_are_refused_by_name(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    checkpoint_files.write(tmp_path / checkpoint_files.WEIGHTS, {"weight": model.weight.detach()})
    checkpoint_files.write_text(tmp_path / checkpoint_files.STATE, json.dumps(asdict(TrainState(step=3))))
    engine = SimpleNamespace(zero_optimization_stage=lambda: 0, module=SimpleNamespace(model=model))
    with pytest.raises(BadCheckpoint, match=r"other weights than this version trains \(bias is in one of both alone\)"):
        resume.load_weights(engine, tmp_path, Ranks())
