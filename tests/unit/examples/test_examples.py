"""The examples and their sample data: valid, disjoint where they must be, with gates that mean something."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from slipway_core import plan as plans
from slipway_core.documents import loading
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.data.text import comparable
from slipway_trainer.prepare import prepare

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SAMPLES = ROOT / "trainer" / "src" / "slipway_trainer" / "samples"

RECALL = pytest.mark.parametrize(
    ("asked", "trained"), [("tang-recall", "tang-recite"), ("tang-recall-more", "tang-recite-more")]
)


def rows(name):
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text().splitlines()]


def load(path):
    run = loading.load(path.read_text(), path.name)
    assert isinstance(run, TrainingRun)
    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid_and_has_a_plan(path):
    plan = plans.resolve(load(path), plans.ExecutorDefaults(folder="/data"), uid="00000000-0000")
    assert plans.load(plan.to_json()) == plan


def test_the_five_examples_are_there():
    assert {path.name for path in EXAMPLES} >= {
        "quickstart.yaml", "rejected.yaml", "lora-from-folder.yaml", "gpu-lora-from-hub.yaml", "your-data.yaml",
    }  # fmt: skip


def test_every_row_of_every_form_of_the_example_is_prepared(tmp_path):
    defaults = plans.ExecutorDefaults(folder=str(ROOT / "examples"))
    made = plans.resolve(load(ROOT / "examples" / "your-data.yaml"), defaults, uid="uid-1")
    workspace = Workspace(tmp_path)
    workspace.plan.write_text(made.to_json())
    said: list[str] = []
    prepare.run(made, workspace, attempt=1, say=said.append)
    stages = json.loads(workspace.prepared.read_text())["stages"]
    assert {name: stages[name]["train"]["rows"] for name in stages} == {"read": 3, "answer": 15}
    assert any(line.endswith("questions.csv: the field 'chapter' of 3 rows is not used") for line in said)


def characters(text):
    return [c for c in text if c.isalpha()]


def gate(run, metric):
    return next(g for g in run.spec.evaluation.gates if g.metric == metric)


def test_A_the_gate_of_the_quickstart_fails_a_model_that_knows_only_how_frequent_each_character_is():
    """Fitted to the training text with add-one smoothing, and even to the held-out text itself."""
    held_out = [row["text"] for row in rows("tang-held-out")]
    text, size = "".join(held_out), len("".join(held_out).encode())

    def bits_per_byte(counts, classes):
        total = sum(counts.values()) + classes
        return sum(-math.log2((counts[c] + 1) / total) for c in text) / size

    training = Counter("".join(row["text"] for row in rows("tang")))
    oracle = Counter(text)
    best = sum(-n * math.log2(n / len(text)) for n in oracle.values()) / size
    asked = gate(load(ROOT / "examples" / "quickstart.yaml"), "bits_per_byte")
    assert bits_per_byte(training, len(training) + len(set(text) - set(training))) > asked.max
    assert best > asked.max
    assert asked.min_tokens >= 1000


def test_A_the_quickstart_asks_for_twenty_poems_to_the_letter():
    assert gate(load(ROOT / "examples" / "quickstart.yaml"), "recall_count").min >= 20


@RECALL
def test_the_recall_prompts_are_worded_otherwise_than_in_training(asked, trained):
    """Another question mark is no other wording: they are compared as `prepare` compares them."""
    chats = rows(trained) + rows("tang-write") + rows("tang-recite")
    turns = {comparable(turn["content"]) for row in chats for turn in row["conversations"] if turn["role"] == "user"}
    prompts = {comparable(row["prompt"]) for row in rows(asked)}
    assert len(prompts) == len(rows(asked)) >= 20
    assert not prompts & turns


def test_a_poem_can_be_asked_for_as_the_readme_does():
    """The exact question is a training wording; the gate asks otherwise."""
    asked = [turn["content"] for row in rows("tang-recite") for turn in row["conversations"]]
    answer = asked[asked.index("背诵李白的《夜思》") + 1]
    assert answer == "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。"


@RECALL
def test_what_is_to_be_recalled_was_taught(asked, trained):
    taught = {turn["content"] for row in rows(trained) for turn in row["conversations"] if turn["role"] == "assistant"}
    assert {row["answer"] for row in rows(asked)} <= taught


def test_C_the_held_out_poems_are_in_no_training_data():
    training = [row["text"] for row in rows("tang")] + [
        turn["content"]
        for name in ("tang-recite", "tang-recite-more", "tang-write")
        for row in rows(name)
        for turn in row["conversations"]
    ]
    seen = "".join("".join(characters(text)) for text in training)
    for row in rows("tang-held-out"):
        lines = [line for line in row["text"].splitlines() if "，" in line or "。" in line]
        assert not any("".join(characters(line)) in seen for line in lines), row["text"]


def test_the_samples_are_made_from_the_poems_byte_for_byte(tmp_path, monkeypatch):
    import runpy

    maker = runpy.run_path(str(ROOT / "tools" / "make_samples.py"))
    monkeypatch.setitem(maker["main"].__globals__, "SAMPLES", tmp_path)
    maker["main"]()
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    # The general text is of other authors, and as they left it.
    assert made == {path.name: path.read_bytes() for path in SAMPLES.glob("tang*.jsonl")}
    assert made
