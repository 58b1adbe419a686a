"""Trackers' libraries are in no process but those that speak to trackers: they cost seconds, and they reach out."""

import subprocess
import sys

import pytest

TRAINS = "slipway_trainer.training.train", "slipway_trainer.training.stage", "slipway_trainer.tracking.following"
STEPS = "slipway_trainer.prepare.prepare", "slipway_trainer.export", "slipway_trainer.evaluation.evaluate"


@pytest.mark.slow
def test_no_step_imports_a_tracker():
    look = f"""
import importlib, sys
for name in {(*TRAINS, *STEPS)}:
    importlib.import_module(name)
print(sorted({{"wandb", "mlflow", "tensorboard", "tensorboardX", "git"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout
    assert found.splitlines()[-1] == "[]"


def test_the_side_of_the_follower_that_trains_imports_no_tracker_and_no_model_library():
    look = """
import sys
import slipway_trainer.tracking.following, slipway_trainer.tracking.follower
print(sorted({"wandb", "mlflow", "tensorboard", "torch", "transformers"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout
    assert found.splitlines()[-1] == "[]"
