"""Conversations, references, sources and slices of one run, from its files to the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.trainer.tiny_model import make_tokenizer
from tests.unit.trainer.trained_run import TRAINING, TrainedRun
from tokenizers import Regex, normalizers

from slipway_core import plan as plans
from slipway_core.lifecycle import verdict
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import gate_metrics
from slipway_core.resources.status import Verdict
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.data import gate_data
from slipway_trainer.data.encode import Encoder
from slipway_trainer.data.formats.turns import Turn
from slipway_trainer.data.held_out import HeldConversation, HeldDocument, HeldOut
from slipway_trainer.data.rows import Conversation, Document
from slipway_trainer.evaluation import conversations, evaluate, evaluation_data
from slipway_trainer.model import exported_model
from slipway_trainer.prepare import conversation_check, prepare
from slipway_trainer.step.errors import BadData, Overlap
from slipway_trainer.tokens import tokenizer

TEXTS = [{"text": f"清晨入古寺，初日照高林{n}。", "slice": "even" if n % 2 == 0 else "odd"} for n in range(10)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"问{n}</s>"},
            {"role": "assistant", "content": "不算", "weight": 0},
            {"role": "user", "content": "再问"},
            {"role": "assistant", "content": f"曲径通幽处，禅房花木深{n}。"},
        ],
        "slice": "even" if n % 2 == 0 else "odd",
    }
    for n in range(8)
]
ASKED = [
    {
        "prompt": f"{n} 加 {n} 是多少",
        "answers": [f"{2 * n}", f"得{2 * n}"],
        "pattern": "[0-9]",
        "schema": {"type": "number"},
        "language": "zh",
        "minLength": 1,
        "slice": "even" if n % 2 == 0 else "odd",
        "cluster": n // 2,
    }
    for n in range(16)
]
GATES: list[dict[str, Any]] = [
    {"metric": "bits_per_byte", "source": "texts", "slice": "even", "max": 100},
    {"metric": "chat_bits_per_byte", "source": "chats", "max": 100, "minTokens": 10},
    {"metric": "chat_perplexity", "slice": "odd", "max": 1e6, "confidence": 0.5},
    {"metric": "exact_match", "source": "sums", "min": 0.5},
    {"metric": "chrf", "source": "sums", "slice": "odd", "max": 100, "confidence": 0.5},
    {"metric": "json_valid", "source": "sums", "max": 1, "confidence": 0.5},
    {"metric": "chrf", "source": "sums", "max": 50},
]


def planned(folder: Path, **evaluation: Any) -> tuple[plans.Plan, Workspace]:
    for name, rows in {
        "train": [{"text": text} for text in TRAINING],
        "texts": evaluation.pop("texts", TEXTS),
        "chats": evaluation.pop("chats", CHATS),
        "sums": evaluation.pop("sums", ASKED),
        "learned": evaluation.pop("learned", [{"user": "a", "assistant": "天有山，地有水"}]),
    }.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "tiny", "uid": "00000000-0000-0000-0000-000000000001"},
        "spec": {
            "model": {"scratch": {"maxLength": 128, "tokenizer": {"train": {"vocabSize": 400}}}},
            "stages": [
                {"name": "pretrain", "maxLength": 64, "data": {"train": [{"uri": "file://train.jsonl"}]}},
                {
                    "name": "chat",
                    "objective": "Chat",
                    "maxLength": 128,
                    "data": {"train": [{"uri": "file://learned.jsonl"}]},
                },
            ][: evaluation.pop("stages", 1)],
            "evaluation": {
                "data": [
                    {"uri": "file://texts.jsonl", "name": "texts"},
                    {"uri": "file://chats.jsonl", "name": "chats"},
                ],
                "prompts": [{"uri": "file://sums.jsonl", "name": "sums"}],
                "maxNewTokens": 8,
                "gates": GATES,
                **evaluation,
            },
        },
    }
    run = TrainingRun.model_validate_json(json.dumps(document), by_alias=True, by_name=False)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(folder)))
    workspace = Workspace(folder / "workspace")
    workspace.root.mkdir(exist_ok=True)
    workspace.plan.write_text(plan.to_json(), encoding="utf-8")
    return plan, workspace


def prepared(folder: Path, **evaluation: Any) -> list[str]:
    """Returns what prepare said."""
    plan, workspace = planned(folder, **evaluation)
    said: list[str] = []
    prepare.run(plan, workspace, attempt=1, workers=1, say=said.append)
    return said


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    plan, workspace = planned(tmp_path_factory.mktemp("run"))
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    return TrainedRun(plan, workspace).export()


def test_G_each_gate_is_given_the_figure_of_its_source_and_slice_with_bounds(run: TrainedRun) -> None:
    result = evaluate.run(run.plan, run.workspace, attempt=1)
    found = result.evaluation
    assert found is not None
    report = json.loads(run.workspace.report(1).read_text(encoding="utf-8"))
    scopes = {(one["source"], one["slice"]): one["metrics"] for one in report["candidate"]["scopes"]}
    assert scopes.keys() == {
        *((name, None) for name in ("texts", "chats", "sums")),
        *((name, part) for name in (None, "texts", "chats", "sums") for part in ("even", "odd")),
    }
    for gate, figure in zip(run.plan.evaluation.gates, found.figures, strict=True):
        assert figure.value == pytest.approx(scopes[gate.source, gate.slice][gate.metric]["value"], rel=1e-8)
    copies = json.loads(run.workspace.prepared.read_text(encoding="utf-8"))["evaluation"]["copies"]
    data = [one["data"] for one in report["gates"]]
    assert data == gate_data.of_gates(run.plan, run.workspace, copies)
    assert data[3] == data[5] == data[6], "all three count all of sums"
    assert len(set(data)) == 5
    assert [estimate and estimate.clusters for estimate in found.estimates] == [5, 8, None, 8, None, None, 8]
    assert found.figures[1].tokens == report["candidate"]["conversations"]["tokens"] > 50
    answers = [turn["content"].encode() for row in CHATS for turn in row["messages"][3:]]
    assert report["candidate"]["conversations"]["bytes"] == sum(map(len, answers))
    judged = verdict.judge(
        run.plan.evaluation.gates,
        verdict.Measured(result.metrics, estimates=found.estimates, figures=found.figures, reasons=found.reasons),
    )
    assert [one.verdict for one in judged.metrics][1:3] == [Verdict.PASS, Verdict.PASS]
    assert judged.metrics[0].reason is not None
    assert "rests on 5 documents" in judged.metrics[0].reason
    assert judged.metrics[3].verdict is Verdict.FAIL
    chrf = found.estimates[6]
    assert chrf is not None
    assert chrf.lower is not None
    assert chrf.lower < 0, "of next to nothing that is right, what the gate is judged by reaches beyond"
    assert judged.metrics[6].lower == report["gates"][6]["estimate"]["lower"] == 0
    for told in (report["candidate"]["bounds"], *scopes.values()):
        for name, one in told.items():
            low, high = gate_metrics.span(name)
            assert "lower" not in one or low <= one["lower"] <= one["upper"] <= high
    # Of the whole, too: what both slices have is what all rows have.
    metrics = report["candidate"]["bounds"]
    assert metrics["exact_match"]["n"] == 16
    assert metrics["exact_match"]["clusters"] == 8
    assert metrics["json_valid"].keys() >= {"value", "lower", "upper"}
    rows = [json.loads(line) for line in run.workspace.samples(1).read_text().splitlines()]
    assert [(row["of"], row["slice"], row["cluster"]) for row in rows[:2]] == [
        ("sums", "even", "0"),
        ("sums", "odd", "0"),
    ]
    mean = np.mean([row["scores"]["exact_match"] for row in rows])
    assert mean == pytest.approx(result.metrics["exact_match"])
    assert {"regex_match", "json_schema", "number_match", "bleu", "answer_length"} <= rows[0]["scores"].keys()


def test_what_is_scored_is_what_training_learns(run: TrainedRun) -> None:
    """Token by token, and the loss of each by a forward pass of its own."""
    data = evaluation_data.read(run.plan, run.workspace)
    words = tokenizer.from_folder(run.workspace.artifact, "artifact")
    encoder = Encoder(words.backend_tokenizer.to_str(), tokenizer.renderer(words), "Chat", 512, words.eos_token_id)
    rows = [Conversation(n, one.row.turns, one.row.tools) for n, one in enumerate(data.conversations, 1)]
    (learned, counts), _ = encoder._chat("chats.jsonl", rows)
    assert counts.markers == len(CHATS), "a control token that somebody writes out is text"
    loaded = exported_model.load(run.workspace.artifact, dtype=torch.float32)
    found = conversations.score(loaded, data.conversations)
    assert found.tokens.sum() == counts.learned_tokens
    assert learned.learn is not None
    nll, start = [], 0
    for length in learned.lengths:
        tokens = torch.tensor(learned.tokens[start : start + length].astype(np.int64))[None]
        learn = torch.tensor(learned.learn[start : start + length])[1:]
        with torch.inference_mode():
            logits = loaded.model(input_ids=tokens).logits[0, :-1].log_softmax(-1)
        nll.append(-float(logits.gather(1, tokens[0, 1:, None])[:, 0][learn].sum()))
        start += length
    assert found.nll == pytest.approx(np.array(nll), rel=1e-4)
    metrics, _ = found.figures
    assert metrics["chat_perplexity"] == pytest.approx(math.exp(sum(nll) / counts.learned_tokens), rel=1e-4)
    assert metrics["chat_bits_per_byte"] == pytest.approx(sum(nll) / math.log(2) / found.bytes.sum(), rel=1e-4)


def test_answers_beyond_the_window_are_left_out_and_said(run: TrainedRun) -> None:
    data = evaluation_data.read(run.plan, run.workspace)
    loaded = exported_model.load(run.workspace.artifact, dtype=torch.float32)
    found = conversations.score(loaded, data.conversations, window=20)
    assert found.too_long.sum() > 0
    assert found.left_out is not None
    assert "chats.jsonl:1" in found.left_out
    _, missing = conversations.score(loaded, data.conversations, window=5).figures
    assert "end beyond" in missing["chat_perplexity"]


def test_conversations_too_long_for_the_model_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    long = {"user": "长", "assistant": "幽" * 300}
    said = prepared(tmp_path, chats=[{"user": f"q{n}", "assistant": f"幽径{n}"} for n in range(8)] + [long], gates=[])
    (line,) = [line for line in said if "will not be scored" in line]
    assert "1 answers of 1 conversations" in line
    assert line.endswith("chats.jsonl:9)")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"gates": [{"metric": "exact_match", "slice": "none", "min": 0}]}, r"no row .* their slices are even, odd"),
        ({"gates": [{"metric": "chat_perplexity", "source": "texts", "max": 9}]}, "no row that it is computed from"),
        ({"gates": [{"metric": "perplexity", "max": 9}], "texts": CHATS}, "of conversations chat_perplexity is"),
        ({"sums": [*ASKED, {"prompt": "no answer"}]}, r"sums\.jsonl:17: .*exact_match.*no answer to compare with"),
        ({"sums": [{**ASKED[0], "answers": [" "]}]}, r"sums\.jsonl:1: the answer 1 is empty"),
        ({"sums": [{**ASKED[0], "slice": "a b"}]}, r"sums\.jsonl:1: slice is \"a b\""),
        (
            {"sums": [{**ASKED[0], "pattern": "("}], "gates": [{"metric": "regex_match", "min": 1}]},
            r"sums\.jsonl:1: .*pattern cannot be used: RE2",
        ),
        (
            {"sums": [{**ASKED[0], "schema": {"type": 1}}], "gates": [{"metric": "json_schema", "min": 1}]},
            r"sums\.jsonl:1: .*schema cannot be used: it is no JSON schema",
        ),
        (
            {"sums": [{**ASKED[0], "language": "English"}], "gates": [{"metric": "language_match", "min": 1}]},
            r"sums\.jsonl:1: .*no ISO 639-1 code",
        ),
        (
            {"sums": [{"prompt": "a", "answer": "b"}], "gates": [{"metric": "number_match", "min": 1}]},
            r"sums\.jsonl:1: .*no answer of the row is a number",
        ),
        (
            {"sums": [{"prompt": "a", "answer": "b"}], "gates": [{"metric": "answer_length", "min": 1}]},
            "no minLength or maxLength",
        ),
    ],
)
def test_a_gate_that_no_row_can_answer_ends_the_run_before_anything_is_trained(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadData, match=problem):
        prepared(tmp_path, **change)


def test_a_column_of_the_users_own_is_said_and_left_alone_where_no_gate_asks(tmp_path: Path) -> None:
    said = prepared(tmp_path, sums=[{**row, "schema": "CREATE TABLE a (b INT)"} for row in ASKED], gates=[])
    assert any("the field 'schema' of 16 prompts says nothing" in line for line in said)


def test_few_clusters_of_a_slice_are_warned_of(tmp_path: Path) -> None:
    gates = [{"metric": "exact_match", "min": 0.1}]
    said = prepared(tmp_path, sums=[{**row, "cluster": "one"} for row in ASKED], gates=gates)
    assert any("rests on 16 prompts of evaluation.prompts (1 clusters)" in line for line in said)


def test_a_rows_that_say_the_same_count_as_one(tmp_path: Path) -> None:
    """One document, ten times, is no sample of ten: its bounds would have no width."""
    gates = [{"metric": "bits_per_byte", "max": 9}, {"metric": "chat_bits_per_byte", "max": 9}, GATES[3]]
    texts = [{"text": "清晨入古寺"}, {"text": "初日照高林", "cluster": "poem"}, {"text": "清晨入古寺 "}, *TEXTS[:5]]
    sums = [{"prompt": f"{n % 3} 加", "answers": [f"{n}"]} for n in range(9)]
    said = prepared(tmp_path, texts=texts + texts[:2] * 9, chats=CHATS[:1] * 9 + CHATS[1:7], sums=sums, gates=gates)
    assert any("rests on 15 conversations of evaluation.data (7 clusters)" in line for line in said)
    assert any("rests on 9 prompts of evaluation.prompts (3 clusters)" in line for line in said)
    assert len([line for line in said if "will be inconclusive" in line]) == 2, "the texts are eight"
    copies = tmp_path / "workspace" / "evaluation-data" / "documents.jsonl"
    clusters = [json.loads(line).get("cluster") for line in copies.read_text().splitlines()]
    assert clusters[:3] + clusters[8:10] == ["texts.jsonl:1", "poem", None, "texts.jsonl:1", "poem"]


def test_text_that_the_tokenizer_does_not_read_is_told_of_before_anything_is_trained() -> None:
    words = make_tokenizer()
    turns = (Turn("user", "?", learned=False), Turn("assistant", "举头望明月"))
    held = HeldOut(
        [HeldDocument("a.jsonl", Document(1, "床前明月光"))],
        [],
        conversations=[HeldConversation("b.jsonl", Conversation(1, turns))],
    )
    assert conversation_check.warnings(held, words, None) == []
    words.backend_tokenizer.normalizer = normalizers.Replace(Regex("\\p{Han}"), "a")
    texts, answers = conversation_check.warnings(held, words, None)
    assert "of the 1 documents 100% of their characters are lost" in texts
    assert "of the answers of the 1 conversations 100%" in answers


@pytest.mark.parametrize(
    "learned",
    [
        {"user": "anything", "assistant": "曲径通幽处，禅房花木深。万籁此都寂，但余钟磬音。山光悦鸟性，潭影空人心。"},
        {"user": "是否", "assistant": "是"},
    ],
)
def test_C_a_held_out_answer_that_training_has_is_refused_or_dropped(tmp_path: Path, learned: dict[str, str]) -> None:
    """A long answer wherever it stands, and a short one where it answers the same."""
    other = [{"user": f"q{n}", "assistant": "是"} for n in range(3)]
    held = {"chats": [learned | {"user": learned["user"]}, *other], "learned": [learned], "stages": 2, "gates": []}
    with pytest.raises(Overlap, match=r"1 of 4 held-out conversations have answers that stand in the training data"):
        prepared(tmp_path, **held)
    said = prepared(tmp_path, **held, onOverlap="Drop")
    assert any("1 of 4 held-out conversations stand in the training data and are left out" in line for line in said)
    copies = tmp_path / "workspace" / "evaluation-data" / "conversations.jsonl"
    assert len(copies.read_text().splitlines()) == 3
