"""Two runs side by side: figures that can be held against each other, and what differs in how they were made."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from tests.unit.cli.judged_run import LIVE, SAMPLES, gate, judged

from slipway.local.state import State
from slipway.local.target import LocalTarget
from slipway.records import comparison, files
from slipway.records.comparison import Side
from slipway.records.record import of_files
from slipway.screen.report import comparison_page, comparison_terminal
from slipway.screen.report.words import Language, Words
from slipway_core.documents import loading
from slipway_core.resources.status import Verdict


def read(workdir, name):
    target = LocalTarget(State.below(workdir))
    run = target.run(name)
    return of_files(run, target.files(run, files.of_run(run)))


def changed(run):
    """Trains slower, and asks for less."""
    document = run.to_document()
    document["spec"]["stages"][0]["optimizer"]["learningRate"] = 1e-4
    document["spec"]["evaluation"]["gates"] = [{"metric": "bits_per_byte", "max": 5}]
    return loading.load_run(json.dumps(document))


def side(workdir, name):
    record = read(workdir, name)
    return Side(name, record, record.status.artifact.digest)


def shown(found, words=Words()):  # noqa: B008
    out = io.StringIO()
    comparison_terminal.show(found, words, Console(file=out, width=1000))
    return out.getvalue() + comparison_page.page(found, words, datetime(2026, 1, 2, tzinfo=UTC))


def test_figures_settings_data_and_answers_of_two_runs_are_side_by_side(tmp_path):
    judged(tmp_path, "a", values={"bits_per_byte": 2.9, "distinct_1": 0.5})
    samples = [SAMPLES[0], {**SAMPLES[1], "answer": "别的"}]
    worse = gate(value=3.5, lower=3.4, upper=3.6, verdict=Verdict.FAIL)
    judged(
        tmp_path, "b", gates=[worse], verdict=Verdict.FAIL, samples=samples, values={"bits_per_byte": 3.5}, data="9",
        run=changed,
    )  # fmt: skip
    found = comparison.compare(read(tmp_path, "a"), side(tmp_path, "b"))
    assert [(one.name, one.a_value, one.b_value) for one in found.metrics] == [
        ("bits_per_byte", 2.9, 3.5),
        ("distinct_1", 0.5, None),
    ]
    assert found.metrics[0].difference == 3.5 - 2.9
    assert found.same_data is True
    assert found.settings["stages[pretrain].optimizer.learningRate"] == ("0.003", "0.0001")
    assert found.settings["gate bits_per_byte max"][1].startswith("5")
    assert list(found.data) == ["pretrain/train"]
    assert (found.common, [one.live for one in found.changed]) == (2, ["别的"])
    said = shown(found)
    for told in (
        "a: Passed",
        "b: Not passed",
        "3.5 (3.4 to 3.6)",
        "+0.6",
        "Both were judged on the same held-out data.",
    ):
        assert told in said
    assert "两者在相同的保留数据上评测。" in shown(found, Words(Language.ZH))


def test_a_run_and_itself_differ_in_nothing(tmp_path):
    judged(tmp_path, "a")
    found = comparison.compare(read(tmp_path, "a"), side(tmp_path, "a"))
    assert (found.settings, found.data, list(found.changed)) == ({}, {}, [])
    assert "Settings and data are the same." in shown(found)


def test_other_held_out_data_is_said_unless_one_was_measured_beside_the_other(tmp_path):
    judged(tmp_path, "a")
    folder = judged(tmp_path, "b", values={"bits_per_byte": 2.5})
    status = folder.status()
    moved = status.evaluation.model_copy(update={"data_digest": "sha256:" + "1" * 64})
    folder.save_status(status.model_copy(update={"evaluation": moved}))
    found = comparison.compare(read(tmp_path, "a"), side(tmp_path, "b"))
    assert found.same_data is False
    assert "different held-out data" in shown(found)
    # The live version that the evaluation of `a` measured on its own rows is this one.
    beside = {"baseline": {"digest": status.artifact.digest, "metrics": {"bits_per_byte": 2.7}}}
    judged_again = read(tmp_path, "a")
    again = type(judged_again)(**{**vars(judged_again), "report": {**judged_again.report, **beside}})
    found = comparison.compare(again, side(tmp_path, "b"))
    assert (found.same_data, found.metrics[0].b_value) == (True, 2.7)


def test_what_is_live_is_known_from_the_evaluation_where_its_run_is_gone(tmp_path):
    judged(tmp_path, "a", live=LIVE)
    found = comparison.compare(read(tmp_path, "a"), Side("chat, version 3", None, "sha256:" + "f" * 64))
    assert (found.metrics[0].b_value, found.same_data, found.common) == (2.95, True, 3)
    assert {one.live for one in found.changed} == {"nobody", "床前明月光"}
    assert "chat, version 3" in shown(found)
    unknown = comparison.compare(read(tmp_path, "a"), Side("chat, version 4", None, "sha256:" + "0" * 64))
    assert (unknown.metrics[0].b_value, unknown.same_data, unknown.common) == (None, None, 0)
    assert "No prompt was answered by both." in shown(unknown)


def scoped(**values):
    """A report's figures of sources, with bounds."""
    return [
        {"source": name, "slice": None, "metrics": {"chrf": {"value": value, "lower": value - 1, "upper": value + 1}}}
        for name, value in values.items()
    ]


def test_sources_and_slices_that_both_have_are_side_by_side(tmp_path):
    judged(tmp_path, "a", report={"candidate": {"scopes": scoped(poems=20.0, songs=5.0)}})
    judged(tmp_path, "b", report={"candidate": {"scopes": scoped(poems=23.5, other=1.0)}})
    found = comparison.compare(read(tmp_path, "a"), side(tmp_path, "b"))
    assert [(one.name, one.metric, one.difference) for one in found.parts] == [("source poems", "chrf", 3.5)]
    told = shown(found)
    assert told.count("20 (19 to 21)") == told.count("23.5 (22.5 to 24.5)") == 2, "on the page and at the terminal"
    assert told.count("+3.5") == 2


def of_task(value):
    return [{"task": "arc", "metrics": {"acc": {"value": value, "lower": value - 0.1, "upper": value + 0.1}}}]


def test_figures_of_tasks_and_of_gates_on_them_are_side_by_side(tmp_path):
    live = {"digest": "sha256:" + "f" * 64, "metrics": {}, "tasks": of_task(0.25)}
    gates = [gate(name="acc", task="arc", value=0.5, threshold=">= 0.4")]
    judged(tmp_path, "a", gates=gates, report={"candidate": {"tasks": of_task(0.5)}, "baseline": live})
    judged(tmp_path, "b", report={"candidate": {"tasks": of_task(0.75)}})
    found = comparison.compare(read(tmp_path, "a"), side(tmp_path, "b"))
    assert [(one.name, one.metric, one.difference) for one in found.parts] == [("task arc", "acc", 0.25)]
    gone = comparison.compare(read(tmp_path, "a"), Side("chat, version 3", None, live["digest"]))
    assert [(one.name, one.b.value) for one in gone.parts] == [("task arc", 0.25)]
    assert [(one.name, one.b_value) for one in gone.metrics if one.a] == [("acc of task arc", 0.25)]


def test_gates_on_a_source_and_on_a_slice_of_one_name_are_two(tmp_path):
    gates = [gate(name="contains", source="hard", value=0.5), gate(name="contains", slice="hard", value=0.75)]
    judged(tmp_path, "a", gates=gates)
    judged(tmp_path, "b", gates=gates)
    found = comparison.compare(read(tmp_path, "a"), side(tmp_path, "b"))
    told = [(one.name, one.a_value, one.b_value) for one in found.metrics if one.a]
    assert told == [("contains of source hard", 0.5, 0.5), ("contains of slice hard", 0.75, 0.75)]


def test_what_two_runs_ask_of_rows_of_one_name_is_told_apart(tmp_path):
    def asked(least):
        ones = [{"slice": "sums", "min": least}, {"task": "sums", "min": 0.5}, {"source": "sums", "min": 0.25}]
        return {"evaluation": {"gates": [{"metric": "exact_match", **one} for one in ones]}}

    for name in ("a", "b"):
        judged(tmp_path, name)
    a, b = (replace(read(tmp_path, name), plan=asked(least)) for name, least in (("a", 0.6), ("b", 0.7)))
    assert comparison.compare(a, Side("b", b)).settings == {"gate exact_match slice sums min": ("0.6", "0.7")}


def test_without_the_other_run_its_parts_are_those_that_were_measured_beside(tmp_path):
    live = {"digest": "sha256:" + "f" * 64, "metrics": {"chrf": 9.0}, "scopes": scoped(poems=9.0)}
    judged(tmp_path, "a", report={"candidate": {"scopes": scoped(poems=20.0, songs=5.0)}, "baseline": live})
    found = comparison.compare(read(tmp_path, "a"), Side("chat, version 3", None, live["digest"]))
    assert [(one.name, one.b.value, one.difference) for one in found.parts] == [("source poems", 9.0, -11.0)]
    unknown = comparison.compare(read(tmp_path, "a"), Side("chat, version 4", None, "sha256:" + "0" * 64))
    assert unknown.parts == ()


def test_a_gate_without_a_figure_or_on_a_regression_has_its_verdict_beside_the_other_one(tmp_path):
    unknown = gate(
        name="judge_score", value=None, lower=None, upper=None, threshold=">= 0.6", verdict=Verdict.INCONCLUSIVE
    )
    worse = gate(value=2.5, difference=0.2, lower=0.1, upper=0.3, threshold="<= live + 0.02", verdict=Verdict.FAIL)
    for name in ("a", "b"):
        judged(tmp_path, name, gates=[unknown, worse], verdict=Verdict.FAIL)
    told = shown(comparison.compare(read(tmp_path, "a"), side(tmp_path, "b")))
    page = told[told.index("<html") :]
    for shown_at, mark in ((told.removesuffix(page), "Inconclusive"), (page, ">Inconclusive</b>")):
        assert shown_at.count(mark) == 2, "of both, at the terminal and on the page"
    assert told.count("2.5 (") == 0, "the bounds are those of the difference"
    assert "&lt;= live + 0.02" in told
