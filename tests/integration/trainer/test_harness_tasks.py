"""Tasks give what lm-evaluation-harness gives by its own command: on the same model, to the printed digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.tiny_model import TEXTS, make_exported, teach

from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.harness import process
from slipway_trainer.harness.description import Wanted
from slipway_trainer.harness.process import Harness
from slipway_trainer.model.exported_model import ExportedModel

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
