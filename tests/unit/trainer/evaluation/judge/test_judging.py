"""A judge in an evaluation, from a real server to the verdict: what it is asked, and what its answers come to."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import judge_server
from tests.unit.trainer.judge_server import Fields, Response, Server, by_rules, parts, prefers_the_first, says
from tests.unit.trainer.own_model import own_model
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from tests.unit.trainer.trained_run import TrainedRun
from transformers import LlamaForCausalLM

from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.verdict import Judgement
from slipway_core.protocol import artifact
from slipway_core.resources.status import JudgeStatus, Verdict
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.judge import key as judge_key
from slipway_trainer.prepare import judge_questions
from slipway_trainer.step.errors import BadConfig, Superseded
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter

KEY = "sk-judges-key"
PROMPTS = [
    {
        "prompt": f"say {n}",
        "answer": "a reference of some length" if n % 3 else "r",
        "slice": "even" if n % 2 == 0 else "odd",
        "cluster": f"page-{n // 2}",
    }
    for n in range(20)
]
RECALLED = [{"prompt": "once more", "answer": "x"}]
WINS = {"metric": "win_rate", "min": 0.4}
MARKS = {"metric": "judge_score", "min": 0.5}
PARTS = (None, "even", "odd")
_attempts = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with judge_server.serving() as served:
        yield served


@pytest.fixture(scope="module")
def prepared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that made another model of its base."""
    return made_run(tmp_path_factory.mktemp("run"), server, PROMPTS, compare="Reference", gates=[WINS])


@pytest.fixture(scope="module")
def without_references(server: Server, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The same of rows that have no answer to compare with."""
    asked = [{"prompt": row["prompt"]} for row in PROMPTS]
    return made_run(tmp_path_factory.mktemp("open"), server, asked, gates=[MARKS])


def made_run(folder: Path, server: Server, prompts: list[dict[str, str]], *, gates: Any, **judge: Any) -> TrainedRun:
    words = make_tokenizer()
    base = folder / "base"
    make_model(words, seed=5).save_pretrained(str(base))
    words.save_pretrained(str(base))
    for name, rows in {"prompts": prompts, "recall": RECALLED, "train": [{"text": "All the king's horses."}]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {
        "data": [],
        "prompts": [{"uri": "file://prompts.jsonl", "name": "said"}, {"uri": "file://recall.jsonl", "recall": True}],
        "maxNewTokens": 12,
        "judge": {
            "url": server.url,
            "model": "rules",
            "criteria": "The longer answer is the better one.",
            "credentials": "judge-key",
            **judge,
        },
        "gates": gates,
    }
    stages = [{"name": "pretrain", "maxLength": 64, "data": {"train": [{"uri": "file://train.jsonl"}]}}]
    os.environ["JUDGE_API_KEY"] = KEY
    made = own_model(folder, base, stages=stages, evaluation=evaluation)
    made.end_stage(make_model(make_tokenizer(), seed=6))
    export.run(made.plan, made.workspace, attempt=1)
    return made


@pytest.fixture
def run(prepared: TrainedRun, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainedRun]:
    monkeypatch.setenv("JUDGE_API_KEY", KEY + "\n")
    server.answer = by_rules
    server.asked.clear()
    server.keys.clear()
    yield prepared
    prepared.workspace.fetched_verdicts.unlink(missing_ok=True)


def asking(run: TrainedRun, *gates: dict[str, Any], **judge: Any) -> TrainedRun:
    """Returns the run with other gates and another judge."""
    document = run.plan.evaluation.to_document()
    fields = {**document["judge"], **judge}
    document |= {"gates": [{"confidence": 0.95, **gate} for gate in gates]}
    document["judge"] = {name: value for name, value in fields.items() if value is not None}
    evaluation = type(run.plan.evaluation).model_validate(document, by_alias=True, by_name=False)
    return TrainedRun(run.plan.model_copy(update={"evaluation": evaluation}), run.workspace)


def judged(run: TrainedRun, baseline: str | None = None) -> tuple[Judgement, dict[str, Any], int]:
    """Returns the verdict, the report, and the number of the attempt."""
    attempt = next(_attempts)
    os.environ["JUDGE_API_KEY"] = KEY + "\n"
    result = evaluate.run(run.plan, run.workspace, attempt=attempt, baseline=baseline)
    found = result.evaluation
    assert found is not None
    measured = verdict.Measured(
        result.metrics,
        baseline=found.baseline_metrics if found.baseline_digest else None,
        estimates=found.estimates,
        figures=found.figures,
        reasons=found.reasons,
        judge_silent=found.judge is not None and found.judge.silent is True,
    )
    evaluation = run.plan.evaluation
    judgement = verdict.judge(evaluation.gates, measured, win_rate_over=evaluation.win_rate_over)
    return judgement, json.loads(run.workspace.report(attempt).read_text()), attempt


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def won(mine: str, theirs: str) -> float:
    return 0.5 if len(mine) == len(theirs) else float(len(mine) > len(theirs))


def test_G_win_rate_and_judge_score_are_what_the_judge_said(run: TrainedRun, server: Server) -> None:
    wanted = asking(run, WINS, {**MARKS, "slice": "even"}, repeats=2)
    found, report, attempt = judged(wanted)
    samples = rows(run.workspace.samples(attempt))[: len(PROMPTS)]
    rates = [won(one["answer"], one["wanted"]) for one in samples]
    marks = [min(10, 1 + len(one["answer"]) // 4) for one in samples[::2]]
    assert 0 < sum(rates) < len(rates), "some win and some lose, or nothing is shown"
    assert [one.name for one in found.metrics] == ["win_rate", "judge_score"]
    assert found.metrics[0].value == pytest.approx(sum(rates) / len(rates))
    assert found.metrics[1].value == pytest.approx(sum((one - 1) / 9 for one in marks) / len(marks))
    assert [one.clusters for one in found.metrics] == [10, 10], "repeats are no rows, and rows of a cluster are one"
    assert [one["scores"]["win_rate"] for one in samples] == rates
    assert "judge_score" not in samples[1]["scores"], "no gate asks for it"
    told = report["judge"]
    told_apart = 2 * sum(rate != 0.5 for rate in rates)
    assert told["controls"] == {}, "it tells answers apart, and nobody asks it to prove that"
    assert (told["questions"], told["unanswered"], told["kept"]) == (2 * (2 * 20 + 10), 0, 0)
    assert told["agreement"]["win_rate of candidate"] == {
        "orders": 1.0, "repeats": 1.0, "pairs": 40, "told_apart": told_apart, "contradicted": 0, "same_answers": 0,
    }  # fmt: skip
    assert (told["answered_by"], told["tokens"]) == (["rules-1"], {"sent": 10000, "replied": 1000})
    assert "The longer answer is the better one." in told["told"]["Pair"]
    assert {asked["seed"] for asked in server.asked} == {0, 1}
    assert not any("once more" in asked["messages"][1]["content"] for asked in server.asked), "recall is no quality"


def test_what_was_sent_and_answered_is_in_the_report(run: TrainedRun, server: Server) -> None:
    _, report, attempt = judged(asking(run, WINS))
    lines = rows(run.workspace.judge(attempt))
    assert len(lines) == report["judge"]["transcript"]["lines"] == 40
    samples = rows(run.workspace.samples(attempt))
    for line in lines:
        shown = parts({"messages": [{}, {"content": line["sent"]}]})
        mine = shown["answer B" if line["swapped"] else "answer A"]
        assert mine == samples[line["sample"]]["answer"]
        assert json.loads(line["answered"])["verdict"] in ("A", "B", "Tie")
        assert line["source"] == samples[line["sample"]]["source"]


def test_H_the_key_is_nowhere_but_in_the_requests(run: TrainedRun, server: Server, capsys: Any) -> None:
    def echoes(asked: Fields) -> Response:
        return says(verdict="A", key=server.keys[-1])

    server.answer = echoes
    judged(asking(run, WINS))
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert "JUDGE_API_KEY" not in os.environ, "no process that evaluate starts has it"
    assert KEY not in "".join(capsys.readouterr())
    written = [path for path in run.workspace.root.rglob("*") if path.is_file()]
    assert any(path.name == "judge.jsonl" for path in written)
    assert not any(KEY.encode() in path.read_bytes() for path in written)


def test_preview_and_prepare_say_how_many_questions_it_will_be_asked(run: TrainedRun, server: Server) -> None:
    from slipway_trainer.data import held_out, inputs

    wanted = asking(run, WINS, {**MARKS, "slice": "odd"}, repeats=3)
    held = held_out.read(inputs.collect(wanted.plan, run.workspace.root / "nothing", lambda _: None))
    _, report, _ = judged(wanted)
    assert judge_questions.most(wanted.plan, held) == report["judge"]["questions"] == len(server.asked)
    line = judge_questions.line(wanted.plan, held)
    assert line == (
        f"the judge rules at {server.url} will be asked at most 150 questions, and 32 more where it tells hardly "
        "any two answers apart"
    )


def test_A_a_judge_that_prefers_what_stands_first_passes_nothing(run: TrainedRun, server: Server) -> None:
    """Taken at its word, all pairs are ties, and a model as good as whatever it is beside."""
    server.answer = prefers_the_first
    found, report, _ = judged(asking(run, {**WINS, "min": 0.1}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert (
        "the agreement of both orders of a pair is 0.00, and evaluation.judge.minAgreement asks for 0.6" in found.reason
    )
    assert report["judge"]["agreement"]["win_rate of candidate"]["contradicted"] == 20
    found, _, _ = judged(asking(run, {**WINS, "min": 0.1}, minAgreement=0.0))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the judge tells no two different answers apart" in found.reason, "whoever asks for no agreement gets ties"


def test_A_the_marks_of_a_judge_that_contradicts_itself_in_pairs_pass_nothing(run: TrainedRun, server: Server) -> None:
    """Of a question that is put once there is nothing to agree with: what it says of pairs tells what it is worth."""

    def marks_well(asked: Fields) -> Response:
        return by_rules(asked) if "answer" in parts(asked) else prefers_the_first(asked)

    server.answer = marks_well
    gates = [{**MARKS, "min": 0.01}, {"metric": "judge_score", "maxRegression": 0.9, "against": "Base"}]
    found, _, _ = judged(asking(run, *gates, compare=None))
    assert [one.verdict for one in found.metrics] == [Verdict.PASS, Verdict.PASS]
    gates[1]["slice"] = "odd"
    found, report, _ = judged(asking(run, {**WINS, "slice": "even"}, *gates))
    assert [one.verdict for one in found.metrics] == 3 * [Verdict.INCONCLUSIVE]
    assert "the judge contradicts itself: the agreement of both orders of a pair is 0.00" in str(
        found.metrics[1].reason
    )
    assert (
        "its marks are worth no more than its win_rate, of which the judge contradicts itself: the agreement of both "
        "orders of a pair is 0.00"
    ) in str(found.metrics[2].reason), "of the prompts of this gate there are no pairs"
    assert report["judge"]["controls"] == {}, "it is asked nothing more: nothing counts that it says"


def says_tie(asked: Fields) -> Response:
    return says(verdict="Tie") if "answer A" in parts(asked) else says(mark=7)


def test_A_a_judge_that_calls_everything_a_tie_passes_nothing(run: TrainedRun, server: Server) -> None:
    """It never contradicts itself, and half of all is a win_rate of 0.5 without a doubt."""
    server.answer = says_tie
    found, report, attempt = judged(asking(run, {**WINS, "min": 0.4}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.metrics[0].value is None
    assert (
        "the judge tells no two different answers apart: it calls nearly all pairs of different answers ties, and told "
        "only 0 of 8 answers to another prompt from the right one. Give it clearer criteria, or ask another, "
        "in a run of another name: what it answered is kept"
    ) in found.reason
    assert report["judge"]["controls"] == {"Pair": {"shown": 8, "told_apart": 0}}
    assert not found.says_nothing, "what was asked and could not be decided takes an earlier pass back"
    assert len(server.asked) == report["judge"]["questions"] == 40 + 16
    assert [line["of"] for line in rows(run.workspace.judge(attempt))].count("control") == 16


def test_A_a_judge_that_gives_everything_one_mark_passes_nothing(run: TrainedRun, server: Server) -> None:
    server.answer = says_tie
    gates = [MARKS, {"metric": "judge_score", "maxRegression": 0.1, "against": "Base"}]
    found, report, _ = judged(asking(run, *gates, compare=None))
    assert [one.verdict for one in found.metrics] == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    assert "it gives nearly all answers one mark, and told only 0 of 8" in found.reason
    assert not found.says_nothing
    assert report["judge"]["controls"] == {"Mark": {"shown": 8, "told_apart": 0}}


@pytest.mark.parametrize("collapsed", [True, False])
def test_A_a_judge_that_finds_a_models_own_answers_alike_may_be_right(
    without_references: TrainedRun, server: Server, monkeypatch: pytest.MonkeyPatch, collapsed: bool
) -> None:
    """It says one thing to all, or nothing to the point of any prompt: an honest judge gives 3 of 10 to each, and to
    the answers at the wrong prompt too. A pass that the model had is taken back."""
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    server.answer = lambda _: says(mark=3)
    forward = LlamaForCausalLM.forward

    def one_token(self: Any, *given: Any, **named: Any) -> Any:
        made = forward(self, *given, **named)
        made.logits[..., 70] += 1e4
        return made

    if collapsed:
        monkeypatch.setattr(LlamaForCausalLM, "forward", one_token)
    run = asking(without_references, MARKS)
    found, report, attempt = judged(run)
    said = {row["answer"] for row in rows(run.workspace.samples(attempt))[: len(PROMPTS)]}
    assert (len(said) == 1) is collapsed
    assert "" not in said
    assert report["judge"]["controls"] == {"Mark": {"shown": 0 if collapsed else 8, "told_apart": 0}}
    assert (found.verdict, found.says_nothing) == (Verdict.INCONCLUSIVE, False)
    assert ("may be the model that says the same" if collapsed else "told only 0 of 8 answers") in found.reason
    run.workspace.fetched_verdicts.unlink()


def test_A_so_may_one_that_calls_pairs_of_them_ties(without_references: TrainedRun, server: Server) -> None:
    server.answer = says_tie
    found, report, _ = judged(asking(without_references, WINS, compare="Base"))
    assert report["judge"]["controls"] == {"Pair": {"shown": 8, "told_apart": 0}}
    assert (found.verdict, found.says_nothing) == (Verdict.INCONCLUSIVE, False)
    without_references.workspace.fetched_verdicts.unlink()


def test_a_judge_that_knows_a_wrong_answer_is_believed_when_two_models_are_as_good(
    run: TrainedRun, server: Server
) -> None:
    """What stands at another prompt is no reference of this one."""

    def reads(asked: Fields) -> Response:
        shown, wanted = parts(asked), ("a reference of some length", "r")
        number = int(shown["conversation"].split('"say ')[1].split('"')[0])
        right = wanted[number % 3 == 0]
        if "answer" in shown:
            return says(mark=2 if shown["answer"] in wanted and shown["answer"] != right else 9)
        wrong = [shown[name] in wanted and shown[name] != right for name in ("answer A", "answer B")]
        return says(verdict="B" if wrong[0] else "A" if wrong[1] else "Tie")

    server.answer = reads
    found, report, _ = judged(asking(run, WINS, MARKS))
    assert [(one.value, one.verdict) for one in found.metrics] == [
        (0.5, Verdict.INCONCLUSIVE),
        (pytest.approx(8 / 9), Verdict.PASS),
    ]
    assert "more prompts would decide" in str(found.metrics[0].reason), "there are too few, and that is all"
    assert report["judge"]["controls"] == {
        "Pair": {"shown": 8, "told_apart": 8}, "Mark": {"shown": 8, "told_apart": 8},
    }  # fmt: skip
    assert report["judge"]["agreement"]["win_rate of candidate"]["told_apart"] == 0


def test_a_model_of_which_all_answers_have_the_worst_mark_fails(run: TrainedRun, server: Server) -> None:
    """Whatever the mark is worth, nothing passes by it: there is nothing to doubt."""
    server.answer = lambda _: says(mark=1)
    found, report, _ = judged(asking(run, MARKS, compare=None))
    assert found.verdict is Verdict.FAIL
    assert report["judge"]["controls"] == {}


def test_what_the_record_says_of_the_judge_is_how_far_it_agreed_with_itself(run: TrainedRun, server: Server) -> None:
    wanted = asking(run, WINS, MARKS, repeats=2)
    os.environ["JUDGE_API_KEY"] = KEY
    found = evaluate.run(wanted.plan, wanted.workspace, attempt=next(_attempts)).evaluation
    assert found is not None
    assert found.judge == JudgeStatus(orders=1.0, repeats=1.0)


def test_A_a_judge_is_held_to_what_it_says_of_the_prompts_of_each_gate(run: TrainedRun, server: Server) -> None:
    """It does well on the whole, and takes what stands first in a slice."""

    def half_blind(asked: Fields) -> Response:
        number = int(parts(asked)["conversation"].split('"say ')[1].split('"')[0])
        own = number % 2 and number > 5 and "answer" not in parts(asked)
        return prefers_the_first(asked) if own else by_rules(asked)

    server.answer = half_blind
    gates = [
        {"metric": name, "min": 0.01, "slice": part} for name in (WINS["metric"], MARKS["metric"]) for part in PARTS
    ]
    found, _, _ = judged(asking(run, *gates))
    assert [one.verdict for one in found.metrics] == 2 * [Verdict.PASS, Verdict.PASS, Verdict.INCONCLUSIVE]
    for one in found.metrics[2::3]:
        assert "both orders of a pair is 0.30" in str(one.reason)


def test_A_a_judge_that_says_the_worst_and_then_the_best_of_one_answer_passes_nothing(
    run: TrainedRun, server: Server
) -> None:
    server.answer = lambda asked: says(mark=1 if asked["seed"] == 0 else 10)
    found, report, _ = judged(asking(run, {**MARKS, "min": 0.1}, compare=None, repeats=2))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the agreement of repeats of a question is 0.00" in found.reason
    assert not found.says_nothing
    assert report["judge"]["agreement"]["judge_score of candidate"]["repeats"] == 0.0


def test_A_a_prompt_without_a_usable_answer_makes_each_gate_that_counts_it_inconclusive(
    run: TrainedRun, server: Server
) -> None:
    def beyond_the_scale(asked: Fields) -> Response:
        return says(mark=11) if '"say 3"' in parts(asked)["conversation"] else by_rules(asked)

    server.answer = beyond_the_scale
    easy = {**MARKS, "min": 0.01}
    gates = [easy, {**easy, "slice": "odd"}, {**easy, "slice": "even"}]
    found, report, attempt = judged(asking(run, *gates, compare=None))
    assert [one.verdict for one in found.metrics] == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.PASS]
    assert not found.says_nothing, "what the model said may be why the reply cannot be used"
    assert "1 of 20 prompts have no usable answer of the judge, such as prompts.jsonl:4" in str(found.metrics[0].reason)
    assert "mark is 11 and no whole number from 1 to 10" in str(found.metrics[1].reason)
    assert "judge_score" not in report["metrics"]
    assert sum(line["points"] is None for line in rows(run.workspace.judge(attempt))) == 1
    server.answer = by_rules
    again, report, _ = judged(asking(run, *gates, compare=None))
    assert (report["judge"]["kept"], report["judge"]["requests"]) == (19, 1), "what was answered is not paid for again"
    assert Verdict.INCONCLUSIVE not in {one.verdict for one in again.metrics}


@pytest.mark.parametrize("status", [401, 403, 413])
def test_A_a_question_without_an_answer_beside_others_that_have_one_takes_a_pass_back(
    run: TrainedRun, server: Server, status: int
) -> None:
    """What the model said may be why: a filter, a context that is too short."""

    def refuses(asked: Fields) -> Response:
        last = '"say 19"' in parts(asked)["conversation"]
        return Response(b"no", status=status) if last else by_rules(asked)

    server.answer = refuses
    found, _, _ = judged(asking(run, {**MARKS, "min": 0.01}, compare=None, concurrency=1))
    assert (found.verdict, found.says_nothing) == (Verdict.INCONCLUSIVE, False)


@pytest.mark.parametrize(("status", "says_nothing"), [(401, True), (404, True), (403, False), (413, False)])
def test_A_a_judge_that_was_never_there_takes_no_pass_back(
    run: TrainedRun, server: Server, status: int, says_nothing: bool
) -> None:
    server.answer = lambda _: Response(b"no", status=status)
    found, _, _ = judged(asking(run, {**MARKS, "min": 0.01}, WINS, concurrency=1))
    assert (found.verdict, found.says_nothing) == (Verdict.INCONCLUSIVE, says_nothing)


def test_D_an_evaluation_that_is_interrupted_has_got_on_by_what_it_was_answered(
    run: TrainedRun, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    show = Reporter.show

    def look(self: Reporter, message: str) -> None:
        show(self, message)
        if message.startswith("judge: "):
            self._looked_at = -1e9
            kept.append(self.observed().kept or 0)

    monkeypatch.setattr(Reporter, "show", look)
    judged(asking(run, WINS))
    assert 0 < kept[0] < kept[-1]


def test_F_an_attempt_that_a_newer_one_replaced_asks_no_more(run: TrainedRun, server: Server) -> None:
    def replaced(asked: Fields) -> Response:
        if len(server.asked) == 3:
            Fence(run.workspace.fence("evaluate"), 100_000).raise_()
        return by_rules(asked)

    server.answer = replaced
    try:
        with pytest.raises(Superseded):
            judged(asking(run, WINS, concurrency=1))
    finally:
        run.workspace.fence("evaluate").unlink()
    assert len(server.asked) < 10, "of 40"


def test_a_judge_with_a_wrong_key_holds_the_model_and_is_asked_once(run: TrainedRun, server: Server) -> None:
    server.answer = lambda _: Response(b"no", status=401)
    found, _, _ = judged(asking(run, WINS, concurrency=1))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "answered 401" in found.reason
    assert found.says_nothing, "it is no word on the model"
    assert len(server.asked) == 1


def test_A_what_a_judge_could_not_decide_is_said_of_the_model(run: TrainedRun, server: Server) -> None:
    whole, _, _ = judged(asking(run, MARKS, compare=None))
    value = whole.metrics[0].value
    found, _, _ = judged(asking(run, {**MARKS, "min": value}, compare=None))
    assert (found.verdict, found.says_nothing) == (Verdict.INCONCLUSIVE, False)
    server.answer = lambda _: Response(b"no", status=401)
    fewest = {**MARKS, "slice": "even", "min": value}
    found, _, _ = judged(asking(run, fewest, {"metric": "distinct_1", "min": 2.0}, compare=None, concurrency=1))
    assert (found.verdict, found.says_nothing) == (Verdict.FAIL, False)


@pytest.mark.parametrize("gate", [WINS, MARKS])
def test_A_a_model_that_has_no_answers_is_no_fault_of_the_judge(
    run: TrainedRun, monkeypatch: pytest.MonkeyPatch, gate: dict[str, Any]
) -> None:
    forward = LlamaForCausalLM.forward

    def without_a_number(self: Any, *given: Any, **named: Any) -> Any:
        made = forward(self, *given, **named)
        made.logits.fill_(float("nan"))
        return made

    monkeypatch.setattr(LlamaForCausalLM, "forward", without_a_number)
    found, _, _ = judged(asking(run, gate, compare="Reference" if gate is WINS else None))
    assert (found.verdict, found.says_nothing) == (Verdict.INCONCLUSIVE, False)


def test_the_live_version_is_what_win_rate_compares_with_where_the_run_says_so(
    run: TrainedRun, server: Server, tmp_path: Path
) -> None:
    wanted = asking(run, WINS, compare="Live")
    found, _, _ = judged(wanted)
    assert found.verdict is Verdict.NOT_APPLICABLE
    assert server.asked == []
    live = another_version(run, tmp_path)
    found, report, attempt = judged(wanted, live)
    samples, theirs = rows(run.workspace.samples(attempt)), rows(run.workspace.live_samples(attempt))
    rates = [won(samples[n]["answer"], theirs[n]["answer"]) for n in range(len(PROMPTS))]
    assert found.metrics[0].value == pytest.approx(sum(rates) / len(rates))
    assert len(server.asked) == 2 * (
        len(PROMPTS) - report["judge"]["agreement"]["win_rate of candidate"]["same_answers"]
    )
    (tmp_path / "live" / "model.safetensors").write_bytes(b"")
    found, _, _ = judged(wanted, live)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the live version was not measured" in found.reason
    assert found.says_nothing


def test_a_model_beside_itself_is_a_tie_of_which_nobody_is_asked(run: TrainedRun, server: Server) -> None:
    itself = f"file://{run.workspace.artifact}@{artifact.read(run.workspace.artifact).digest}"
    found, report, _ = judged(asking(run, WINS, compare="Live"), itself)
    assert (found.metrics[0].value, server.asked) == (0.5, [])
    assert report["judge"]["agreement"]["win_rate of candidate"]["same_answers"] == 20


def test_a_score_may_be_held_against_that_of_the_base_and_of_the_live_version(
    run: TrainedRun, server: Server, tmp_path: Path
) -> None:
    worse = {"metric": "judge_score", "maxRegression": 1.0}
    gates = [{**worse, "against": "Base"}, worse]
    found, report, _ = judged(asking(run, *gates, compare=None), another_version(run, tmp_path))
    assert len(server.asked) == 3 * len(PROMPTS)
    mine = report["metrics"]["judge_score"]
    for one, other in zip(found.metrics, ("base", "baseline"), strict=True):
        theirs = report[other]["metrics"]["judge_score"]
        assert one.difference == pytest.approx(theirs - mine)
        assert one.verdict is Verdict.PASS
    assert report["judge"]["agreement"].keys() == {f"judge_score of {of}" for of in ("candidate", "base", "baseline")}


def test_G_a_score_of_fewer_prompts_stands_beside_none_of_more(run: TrainedRun) -> None:
    less = {"metric": "judge_score", "slice": "even", "maxRegression": 1.0, "against": "Base"}
    found, report, _ = judged(asking(run, MARKS, less, compare=None))
    assert found.metrics[1].verdict is Verdict.PASS
    assert "judge_score" in report["candidate"]["metrics"]
    assert "judge_score" not in report["base"]["metrics"]
    assert report["base"]["missing"]["judge_score"].endswith("those of these prompts alone that a gate compares")
    even = next(one for one in report["base"]["scopes"] if (one["source"], one["slice"]) == ("said", "even"))
    assert even["metrics"]["judge_score"]["n"] == len(PROMPTS) / 2


def test_the_base_is_what_win_rate_compares_with_where_the_run_says_so(run: TrainedRun, server: Server) -> None:
    found, report, _ = judged(asking(run, WINS, compare="Base"))
    assert found.metrics[0].value is not None
    assert report["judge"]["compare"] == "Base"
    assert {len(parts(one)) for one in server.asked} == {3}


@pytest.mark.parametrize(
    ("key", "words"), [("", "JUDGE_API_KEY is not set"), ("two words", "JUDGE_API_KEY is no key: it holds")]
)
def test_H_a_key_that_is_missing_ends_the_step_before_anything_is_measured(
    run: TrainedRun, key: str, words: str
) -> None:
    with pytest.raises(BadConfig, match=f"evaluation.judge.credentials: {words}"):
        judge_key.take(run.plan, {"JUDGE_API_KEY": key})


def test_H_a_judge_without_credentials_is_sent_no_key_that_lies_about(run: TrainedRun) -> None:
    environment = {"JUDGE_API_KEY": KEY}
    assert judge_key.take(asking(run, WINS, credentials=None).plan, environment) is None
    assert environment == {}


def another_version(run: TrainedRun, folder: Path) -> str:
    """Returns `URI@digest` of a model that answers otherwise."""
    other = own_model(folder / "other", run.workspace.root.parent / "base")
    export.run(other.plan, other.workspace, attempt=1)
    (folder / "live").symlink_to(other.workspace.artifact)
    return f"file://{folder / 'live'}@{artifact.read(other.workspace.artifact).digest}"
