"""Tasks give what lm-evaluation-harness gives by its own command: on the same model, to the printed digit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tests.integration.fetching.hub_server import Hub
from tests.unit.trainer.own_model import own_model
from tests.unit.trainer.plans_of_data import causal, numbered, plan, workspace, write_rows
from tests.unit.trainer.tiny_model import TEXTS, make_exported, make_model, make_tokenizer, teach

from slipway_core.lifecycle import verdict
from slipway_core.plan import Plan
from slipway_core.protocol.preview import Preview
from slipway_trainer import export
from slipway_trainer.data import gate_data
from slipway_trainer.evaluation import evaluate
from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.harness import process
from slipway_trainer.harness.description import Wanted
from slipway_trainer.harness.process import Harness, Refused
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.prepare import harness_tasks, prepare
from slipway_trainer.preview import preview
from slipway_trainer.preview.beside import Beside
from slipway_trainer.step.errors import BadConfig, Overlap

WORDS = [word for text in TEXTS for word in text.split() if word.isascii()][:12]
QUESTIONS = [
    {
        "question": f"{WORDS[n % len(WORDS)]} comes before {'the ' * (n % 5)}",
        "choices": [WORDS[(n + k) % len(WORDS)] for k in range(4)],
        "label": n % 4,
        "answer": WORDS[(n * 5) % len(WORDS)],
    }
    for n in range(12)
]
CHOICE = """\
task: which
dataset_path: json
dataset_kwargs: {data_files: {test: FILES/test.jsonl, train: FILES/train.jsonl}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: label
metric_list:
- {metric: acc, aggregation: mean, higher_is_better: true}
- {metric: acc_norm, aggregation: mean, higher_is_better: true}
- {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
WRITTEN = """\
task: written
dataset_path: json
dataset_kwargs: {data_files: {test: FILES/test.jsonl, train: FILES/train.jsonl}}
test_split: test
fewshot_split: train
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["e", "\\n\\n"], max_gen_toks: 48, do_sample: false}
metric_list:
- {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
- {metric: bleu, aggregation: bleu, higher_is_better: true}
filter_list:
- {name: whole, filter: [{function: take_first}]}
- {name: letters, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
"""
GREEDY = """\
task: greedy
dataset_path: json
dataset_kwargs: {data_files: {test: FILES/test.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: ""
doc_to_target: "{{answer}}"
metric_list:
- {metric: acc, aggregation: mean, higher_is_better: true}
- {metric: perplexity, aggregation: perplexity, higher_is_better: false}
"""


@pytest.fixture(scope="module")
def exported() -> ExportedModel:
    made = make_exported(positions=128)
    teach(made, "the", "dog")
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for name, rows in (("test", QUESTIONS), ("train", QUESTIONS[6:] + QUESTIONS[:3])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def harness() -> Any:
    with process.opened() as opened:
        yield opened


def by_its_own_command(exported: ExportedModel, definition: Path, **settings: Any) -> dict[str, Any]:
    """What `lm_eval --model hf --tasks FILE` prints, with its defaults."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=exported.model, tokenizer=exported.tokenizer, batch_size=1, device="cpu")
    found = simple_evaluate(
        model, tasks=[str(definition)], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0, **settings
    )
    assert found is not None
    return next(iter(found["results"].values()))


@pytest.mark.parametrize(
    ("definition", "fewshot", "limit"),
    [(CHOICE, None, None), (CHOICE, 2, 8), (WRITTEN, 1, 8), (GREEDY, None, 8)],
    ids=["choices", "choices with two shots", "written", "greedy"],
)
def test_a_task_gives_what_the_harness_prints(
    exported: ExportedModel,
    harness: Harness,
    files: Path,
    tmp_path: Path,
    definition: str,
    fewshot: int | None,
    limit: int | None,
) -> None:
    text = definition.replace("FILES", str(files))
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
    expected = by_its_own_command(exported, tmp_path / "task.yaml", num_fewshot=fewshot, limit=limit)
    task = Wanted(text.split("\n")[0].removeprefix("task: "), text, fewshot, own_data=True)
    described = harness.describe(task)
    copied = harness.copy(
        task, {name: [files / f"{name}.jsonl"] for name in described.splits}, tmp_path, "copy-", limit
    )
    found = harness.judge(
        task,
        {split: tmp_path / name for split, name in copied.files.items()},
        TransformersEngine(exported).for_tasks(),
        limit=limit,
        samples=2,
    )
    assert found.documents == len(copied.texts) == (limit or len(QUESTIONS))
    several = len({name.partition(",")[2] for name in expected if "," in name}) > 1
    wanted = {
        name if several else name.partition(",")[0]: value
        for name, value in expected.items()
        if "," in name and "_stderr" not in name
    }
    assert found.metrics.keys() == wanted.keys() == described.metrics.keys()
    for name, value in wanted.items():
        if described.metrics[name].share:
            assert f"{found.metrics[name]:.4f}" == f"{value:.4f}", name
        # The harness adds up what makes a perplexity in float32.
        assert found.metrics[name] == pytest.approx(value, rel=2e-6), name
    for name, scores in found.scores.items():
        assert described.metrics[name].share
        assert sum(scores) / len(scores) == pytest.approx(found.metrics[name])
    assert len(found.samples) == 2


# --- a run with tasks -------------------------------------------------------------------------------------------------

ARC = """\
---
configs:
- config_name: ARC-Challenge
  data_files: hard.jsonl
- config_name: ARC-Easy
  data_files:
  - {split: train, path: easy/train.jsonl}
  - {split: validation, path: easy/validation.jsonl}
  - {split: test, path: easy/test.jsonl}
---
"""


def arc(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows as those of allenai/ai2_arc."""
    return [
        {
            "id": f"q{number}",
            "question": f"Which of these {WORDS[number % len(WORDS)]} is number {number} in the garden of the moon?",
            "choices": {
                "text": [f"{WORDS[(number + k) % len(WORDS)]} {k}" for k in range(4)],
                "label": ["A", "B", "C", "D"],
            },
            "answerKey": "ABCD"[number % 4],
        }
        for number in range(start, start + count)
    ]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    words = make_tokenizer(max_length=512)
    make_model(words, positions=512, seed=5).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return folder


def test_a_task_of_the_hub_is_fetched_at_one_commit_and_judged_without_a_hub(
    hub: Hub, base: Path, files: Path, tmp_path: Path
) -> None:
    easy = {
        name: arc(count, start) for name, count, start in (("train", 9, 100), ("validation", 2, 50), ("test", 10, 0))
    }
    commit = hub.put(
        "datasets/allenai/ai2_arc",
        {"README.md": ARC.encode(), "hard.jsonl": b'{"a": 1}\n'}
        | {f"easy/{name}.jsonl": lines(rows) for name, rows in easy.items()},
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "written.yaml").write_text(WRITTEN.replace("FILES", "/nowhere"), encoding="utf-8")
    own = [{"uri": "file://written.yaml"}, {"uri": f"file://{files}/test.jsonl"}]
    run = own_model(
        tmp_path / "run",
        base,
        evaluation={
            "tasks": [{"name": "arc_easy", "fewshot": 2, "limit": 9}, {"name": "written", "data": own, "fewshot": 0}],
            "gates": [
                {"metric": "acc", "task": "arc_easy", "max": 1},
                {"metric": "exact_match,whole", "task": "written", "min": 0.9},
            ],
        },
    )
    report = json.loads(run.workspace.prepared.read_text())["evaluation"]
    arc_told, written_told = report["tasks"]
    assert {one["revision"] for one in arc_told["files"]} == {commit}
    assert (arc_told["documents"], written_told["documents"]) == (9, 12)
    assert {"tasks.json", "task-arc_easy-test.parquet", "task-written-test.parquet"} <= report["copies"].keys()
    assert "hard.jsonl" not in hub.asked

    hub.repositories.clear()
    export.run(run.plan, run.workspace, attempt=1)
    result = evaluate.run(run.plan, run.workspace, attempt=1)

    for name, rows in easy.items():
        (tmp_path / f"{name}.jsonl").write_bytes(lines(rows))
    expected = shipped_by_its_own_command(
        run.workspace.artifact, "arc_easy", {name: str(tmp_path / f"{name}.jsonl") for name in easy},
        num_fewshot=2, limit=9,
    )  # fmt: skip
    assert result.evaluation is not None
    (acc, exact), (bounds, _) = result.evaluation.figures, result.evaluation.estimates
    assert acc.value == pytest.approx(expected["acc,none"])
    assert bounds is not None
    assert (bounds.n, bounds.clusters) == (9, 9)
    judged = verdict.judge(
        run.plan.evaluation.gates,
        verdict.Measured(result.metrics, estimates=result.evaluation.estimates, figures=result.evaluation.figures),
    )
    assert [one.verdict for one in judged.metrics] == ["Pass", "Fail"]
    assert judged.metrics[1].title == "exact_match,whole of task written"
    assert exact.value == 0
    told = json.loads(run.workspace.report(1).read_text())
    data = [one["data"] for one in told["gates"]]
    assert data == gate_data.of_gates(run.plan, run.workspace, report["copies"])
    assert len(set(data)) == 2
    told = told["candidate"]["tasks"]
    assert told[0]["metrics"]["acc_norm"]["value"] == pytest.approx(expected["acc_norm,none"])
    assert (told[0]["fewshot"], told[0]["limit"], told[0]["version"]) == (2, 9, "1.0")
    assert told[0]["samples"][0]["asked"].count("Question:") == 3


def shipped_by_its_own_command(model: Path, name: str, rows: dict[str, str], **settings: Any) -> dict[str, Any]:
    """What `lm_eval --model hf --tasks NAME` prints, on rows of this machine."""
    import lm_eval.tasks
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    found = next(Path(str(lm_eval.tasks.__file__)).parent.rglob(f"{name}.yaml"))
    task = load_yaml(found) | {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": rows}}
    told = simple_evaluate(
        HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=1),
        tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0, **settings,
    )  # fmt: skip
    assert told is not None
    return told["results"][name]


def test_C_documents_of_a_task_that_stand_in_the_training_data_are_refused_or_left_out(
    files: Path, tmp_path: Path
) -> None:
    rows = arc(10)
    (tmp_path / "test.jsonl").write_bytes(lines(rows))
    learned = [f"{row['question']} {row['choices']['text']['ABCD'.index(row['answerKey'])]}" for row in rows[2:5]]
    train = write_rows(tmp_path / "train.jsonl", *numbered(30), *({"text": text} for text in learned))
    task = {"name": "arc_easy", "data": [{"uri": f"file://{tmp_path}/test.jsonl"}], "limit": 8}
    gates = [{"metric": "acc", "task": "arc_easy", "min": 0.1}]
    refusing = plan(causal(train), tasks=[task], gates=gates)
    with pytest.raises(Overlap, match=r"evaluation\.tasks: 3 of 8 documents of tasks .*: document 2 of task arc_easy"):
        prepare.run(refusing, workspace(tmp_path / "refusing", refusing), attempt=1, workers=1, say=lambda _: None)
    dropping = plan(causal(train), tasks=[task], gates=gates, onOverlap="Drop")
    place = workspace(tmp_path / "dropping", dropping)
    said: list[str] = []
    prepare.run(dropping, place, attempt=1, workers=1, say=said.append)
    (told,) = json.loads(place.evaluation_tasks.read_text())
    assert (told["left_out"], len(told["texts"])) == ([2, 3, 4], 5)
    assert any("gates[0] (acc of task arc_easy) rests on 5 documents and will be inconclusive" in line for line in said)


# --- what the preview tells of them -----------------------------------------------------------------------------------


def previewed(made: Plan) -> Preview:
    with Beside(apart=False) as beside:
        return preview.of_plan(made, preview.Wanted(device="H100"), beside, lambda _: None)


def test_A_of_a_gate_on_a_task_of_files_the_preview_tells_the_digest_that_evaluate_records(
    base: Path, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "which.yaml").write_text(CHOICE.replace("FILES", "/nowhere"), encoding="utf-8")
    (tmp_path / "run" / "arc.jsonl").write_bytes(lines(arc(10)))
    own = [{"uri": "file://which.yaml"}, {"uri": f"file://{files}/test.jsonl"}]
    shots = {"uri": f"file://{files}/train.jsonl", "split": "train"}
    run = own_model(
        tmp_path / "run",
        base,
        prepared=False,
        evaluation={
            "tasks": [
                {"name": "which", "data": [*own, shots], "fewshot": 1},
                {"name": "arc_easy", "data": [{"uri": "file://arc.jsonl"}], "limit": 9},
            ],
            "gates": [
                {"metric": "acc", "task": "which", "min": 0.9},
                {"metric": "acc", "task": "arc_easy", "max": 1},
                {"metric": "bits_per_byte", "max": 100, "confidence": 0.5},
            ],
        },
    )
    seen = previewed(run.plan)
    assert seen.problems == []
    held = seen.held_out
    assert (held.of_tasks, held.tasks) == (12 + 9, []), "of both every row was read"
    assert held.gates[0].gate == "acc of task which >= 0.9"
    assert held.gates[0].says.startswith("12 documents of the task: ")
    assert {one.unsure for one in held.gate_data} == {""}

    prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)
    export.run(run.plan, run.workspace, attempt=1)
    evaluate.run(run.plan, run.workspace, attempt=1)
    recorded = [one["data"] for one in json.loads(run.workspace.report(1).read_text())["gates"]]
    assert [one.digest for one in held.gate_data] == recorded
    assert len(set(recorded)) == 3


def test_A_what_is_left_out_of_a_task_is_left_out_of_what_the_preview_tells(tmp_path: Path) -> None:
    rows = arc(20)
    (tmp_path / "test.jsonl").write_bytes(lines(rows))
    learned = [f"{row['question']} {row['choices']['text']['ABCD'.index(row['answerKey'])]}" for row in rows[2:5]]
    train = write_rows(tmp_path / "train.jsonl", *numbered(30), *({"text": text} for text in learned))
    task = {"name": "arc_easy", "data": [{"uri": f"file://{tmp_path}/test.jsonl"}]}
    gates = [{"metric": "acc", "task": "arc_easy", "min": 0.1}]
    dropping = plan(causal(train), tasks=[task], gates=gates, onOverlap="Drop")
    seen = previewed(dropping)
    told = prepare.run(dropping, workspace(tmp_path / "run", dropping), attempt=1, workers=1, say=lambda _: None)
    assert [one.digest for one in seen.held_out.gate_data] == told.gate_data
    assert (seen.held_out.of_tasks, seen.held_out.left_out.of_tasks) == (20, 3)
    refusing = previewed(plan(causal(train), tasks=[task], gates=gates))
    assert any(said.startswith("evaluation.tasks: 3 of 20 documents of tasks") for said in refusing.problems)


@pytest.mark.parametrize(
    ("fields", "learned", "says", "more"),
    [
        ({}, 30, "1 documents of the task: inconclusive", "Give it more rows (evaluation.tasks[0].data), or take the"),
        ({"limit": 9}, 5, "4 documents of the task: inconclusive", "Take a greater limit than 9, or take the figure"),
        ({"limit": 50}, 24, "7 documents of the task: inconclusive", "Give it more rows (evaluation.tasks[0].data),"),
        (
            {},
            31,
            "none of its 31 documents of the task is left: inconclusive",
            "Give it more rows (evaluation.tasks[0]",
        ),
        ({}, 11, "20 documents of the task: passes for certain with a mean of", None),
    ],
)
def test_A_a_gate_on_a_task_rests_on_what_is_left_of_it_as_prepare_has_it(
    tmp_path: Path, fields: dict[str, Any], learned: int, says: str, more: str | None
) -> None:
    rows = arc(31)
    (tmp_path / "test.jsonl").write_bytes(lines(rows))
    known = [f"{row['question']} {row['choices']['text']['ABCD'.index(row['answerKey'])]}" for row in rows[:learned]]
    made = plan(
        causal(write_rows(tmp_path / "train.jsonl", *numbered(30), *({"text": text} for text in known))),
        tasks=[{"name": "arc_easy", "data": [{"uri": f"file://{tmp_path}/test.jsonl"}], **fields}],
        gates=[{"metric": "acc", "task": "arc_easy", "min": 0.1}],
        onOverlap="Drop",
    )
    seen = previewed(made)
    place = workspace(tmp_path / "run", made)
    prepare.run(made, place, attempt=1, workers=1, say=lambda _: None)
    told = [line for line in seen.warnings if line.startswith("evaluation.gates")]
    prepared = json.loads(place.prepared.read_text())["warnings"]
    assert told == [line for line in prepared if line.startswith("evaluation.gates")]
    (gate,) = seen.held_out.gates
    assert gate.says.startswith(says)
    assert bool(gate.never) is (more is not None)
    assert [more in line for line in told if more is not None] == [True] * (more is not None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", b""),
        ("rows.jsonl", b" \n\n"),
        ("rows.json", b"[]\n"),
        ("rows.csv", b""),
        ("rows.csv", b"question,answer\n"),
        ("rows.txt", b""),
        ("rows.parquet", b""),
    ],
)
def test_files_without_a_row_are_refused_as_such(harness: Harness, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=r"^its split test holds no row\. Give it some as `data`$"):
        harness.copy(Wanted("which", CHOICE, own_data=True), {"test": [tmp_path / name]}, tmp_path, "copy-", None)


def test_a_parquet_file_without_a_row_is_refused_as_such_and_a_broken_one_as_broken(
    harness: Harness, tmp_path: Path
) -> None:
    table, path = pyarrow.table({"question": pyarrow.array([], pyarrow.string())}), tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(table, path)
    task = Wanted("which", CHOICE, own_data=True)
    with pytest.raises(Refused, match="its split test holds no row"):
        harness.copy(task, {"test": [path]}, tmp_path, "copy-", None)
    for broken, kind in ((path, "parquet"), (tmp_path / "rows.jsonl", "json")):
        broken.write_bytes(b"{no rows\n")
        with pytest.raises(Refused, match=f"its rows of the split test cannot be read as {kind}: "):
            harness.copy(task, {"test": [broken]}, tmp_path, "copy-", None)


def test_A_of_a_task_whose_rows_it_does_not_read_the_preview_tells_no_digest_and_why(tmp_path: Path) -> None:
    broken = write_rows(tmp_path / "broken.jsonl", b"{no json\n")
    few = write_rows(tmp_path / "few.jsonl", *arc(7))
    made = plan(
        causal(write_rows(tmp_path / "train.jsonl", *numbered(30))),
        tasks=[
            {"name": "arc_easy"},
            {"name": "arc_challenge", "data": [{"uri": broken}]},
            {"name": "boolq", "data": [{"uri": f"file://{tmp_path}/nowhere.jsonl"}]},
            {"name": "sciq", "data": [{"uri": few}]},
        ],
        gates=[
            {"metric": "acc", "task": "arc_easy", "min": 0.1},
            {"metric": "acc", "task": "arc_challenge", "min": 0.1},
            {"metric": "acc", "task": "boolq", "min": 0.1},
        ],
    )
    seen = previewed(made)
    hub, unread, nowhere = seen.held_out.gate_data
    assert {one.digest for one in (hub, unread, nowhere)} == {None}
    assert "of the hub; prepare fetches them" in hub.unsure
    assert unread.unsure == nowhere.unsure == "its rows could not be read"
    assert [said.split(":")[0].split(" (")[0].removesuffix(".data[0].uri") for said in seen.problems] == [
        "evaluation.tasks[1]", "evaluation.tasks[2]", "evaluation.tasks[3]",
    ], "each is named, and none hides the next"  # fmt: skip
    assert seen.held_out.tasks == ["arc_easy"], "of the others somebody has to mend the rows first"


def test_a_model_that_is_not_there_hides_nothing_of_what_is_wrong_with_the_rows_of_tasks(tmp_path: Path) -> None:
    made = plan(
        causal(write_rows(tmp_path / "train.jsonl", *numbered(30))),
        model={"from": f"file://{tmp_path}/nowhere"},
        tasks=[
            {"name": "arc_easy", "data": [{"uri": write_rows(tmp_path / "rows.jsonl", *arc(9))}]},
            {"name": "boolq", "data": [{"uri": write_rows(tmp_path / "empty.jsonl", b"")}]},
        ],
        gates=[{"metric": "acc", "task": "arc_easy", "min": 0.1}],
    )
    seen = previewed(made)
    model, task = sorted(seen.problems, key=lambda said: "boolq" in said)
    assert "nowhere" in model
    assert task == "evaluation.tasks[1] (boolq): its split validation holds no row. Give it some as `data`"
    assert (seen.held_out.of_tasks, seen.held_out.tasks) == (9, [])


REFUSED: list[tuple[dict[str, Any], dict[str, Any] | None, str]] = [
    ({"name": "arc_esy"}, None, r"ships no task of that name; near it are .*arc_easy"),
    ({"name": "ai2_arc"}, None, "is a group of tasks: name each that is wanted, of arc_challenge, arc_easy"),
    ({"name": "wikitext"}, None, "scores text token by token, which evaluation.data does"),
    ({"name": "humaneval"}, None, "runs code that the model writes"),
    ({"name": "squadv2"}, None, "is a program that fetches its rows itself"),
    ({"name": "arc_easy"}, {"metric": "exact_match", "min": 0}, "has no such metric; a gate can be on acc, acc_norm"),
    ({"name": "gsm8k"}, {"metric": "exact_match", "min": 0}, "a gate can be on exact_match,strict-match, exact_match,"),
]


def test_what_nobody_could_judge_is_refused_before_anything_is_read(
    harness: Harness, files: Path, tmp_path: Path
) -> None:
    for task, gate, words in REFUSED:
        gates = [] if gate is None else [{**gate, "task": task["name"]}]
        made = plan(causal("package://tang"), tasks=[task], gates=gates)
        with pytest.raises(BadConfig, match=words):
            harness_tasks.describe(made, harness, tmp_path, None, tmp_path, lambda _: None)


def test_a_template_of_a_task_file_reaches_nothing(harness: Harness, files: Path, tmp_path: Path) -> None:
    reaching = CHOICE.replace("{{question}}", "{{question.__class__.__mro__[1].__subclasses__()}}")
    task = Wanted("which", reaching, own_data=True)
    with pytest.raises(Refused, match="unsafe"):
        harness.copy(task, {"test": [files / "test.jsonl"]}, tmp_path, "copy-", 8)


def test_a_task_is_denied_the_network() -> None:
    program = (
        "import socket, sys; from slipway_trainer.harness import worker; sys.addaudithook(worker._deny_network)\n"
        "socket.create_connection(('127.0.0.1', 9))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "PermissionError: a task may not use the network" in told.stderr


def test_rows_without_a_column_that_the_task_reads_are_refused(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"ask": "a"}\n', encoding="utf-8")
    with pytest.raises(Refused, match="'question' is undefined"):
        harness.copy(Wanted("which", CHOICE, own_data=True), {"test": [tmp_path / "rows.jsonl"]}, tmp_path, "c-", None)


def test_without_the_harness_a_task_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadConfig, match=r"pip install 'slipway-trainer\[tasks\]'"), process.opened():
        pass
