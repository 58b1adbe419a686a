"""A model takes along what it has learned from, and what nobody can know of that, however many runs lie between."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.plans_of_data import causal, plan

from slipway_core.protocol import artifact
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data import learned_passages, passage_sample
from slipway_trainer.evaluation import live_training


def learn(folder: Path, text: str, base: str | None) -> dict[str, Any]:
    """Leaves the artifact of a run that learned a text; returns what its lineage says of that."""
    made = plan(causal("file:///a.jsonl"), model={"from": base} if base else None)
    workspace = Workspace(folder / "run")
    workspace.root.mkdir(parents=True)
    collector = passage_sample.Collector(passage_sample.below(1))
    collector.add(passage_sample.of([text.split()], passage_sample.below(1)))
    workspace.passages.write_bytes(collector.result().to_bytes())
    said = learned_passages.write(made, workspace, folder)
    (folder / artifact.MANIFEST).write_text(
        json.dumps(
            {
                "digest": "sha256:" + "0" * 64,
                "files": {},
                "run": "r",
                "plan_digest": "sha256:" + "0" * 64,
                "created_at": "now",
                "lineage": {"passages": said},
            }
        )
    )
    return said


@pytest.fixture
def strangers(tmp_path: Path) -> str:
    (tmp_path / "strangers").mkdir()
    return f"file://{tmp_path / 'strangers'}"


def words(name: str) -> str:
    return " ".join(f"{name}{number}" for number in range(40))


def test_of_a_new_model_all_is_known(tmp_path: Path) -> None:
    assert learn(tmp_path / "a", words("a"), None) == {"rate": 1.0, "base_unknown": None}
    assert learn(tmp_path / "b", words("b"), f"file://{tmp_path / 'a'}") == {"rate": 1.0, "base_unknown": None}
    found = live_training.look(tmp_path / "b", [words("a"), words("b"), words("c")])
    assert found is not None
    assert (found.report["overlapping"], "not known" in found.note) == ([1, 2], False)


def test_what_a_strangers_model_learned_stays_unknown_over_two_runs(tmp_path: Path, strangers: str) -> None:
    assert learn(tmp_path / "a", words("a"), strangers)["base_unknown"] == strangers
    assert learn(tmp_path / "b", words("b"), f"file://{tmp_path / 'a'}")["base_unknown"] == strangers
    found = live_training.look(tmp_path / "b", [words("c")])
    assert found is not None
    assert f"what its base model {strangers} learned is not known" in found.note


def test_a_sample_without_a_manifest_says_nothing_of_what_came_before_it(tmp_path: Path) -> None:
    learn(tmp_path / "a", words("a"), None)
    (tmp_path / "a" / artifact.MANIFEST).unlink()
    base = f"file://{tmp_path / 'a'}"
    assert learn(tmp_path / "b", words("b"), base)["base_unknown"] == base
