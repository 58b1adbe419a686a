"""The report of a run: why it was judged as it was, drawn and told, whatever its answers hold."""

import io
import json
import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from string import Formatter

import pytest
from rich.console import Console
from tests.unit.cli.evidence import entered, rejected
from tests.unit.cli.judged_run import SAMPLES, gate, judged

from slipway.local.state import State
from slipway.local.target import LocalTarget
from slipway.records import comparison, files, gates, lineage
from slipway.records.record import of_files
from slipway.screen.lineage import text
from slipway.screen.report import charts, page, sentences, terminal, words
from slipway.screen.report.words import Language, Words
from slipway.training_metrics import Point
from slipway_core.resources.status import Phase, Progress, RunStatus, StepState, StepStatus, Verdict

EN, ZH = Words(), Words(Language.ZH)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOSTILE = "<script>alert('床')</script>\u202e<img src=x onerror=alert(1)> & \x1b[31m]]>"
VOID = {"meta", "rect", "line", "circle", "polygon", "polyline", "path"}


class Page(HTMLParser):
    """What a browser would make of a page, as far as it matters here."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def read(workdir, name="tang"):
    target = LocalTarget(State.below(workdir))
    run = target.run(name)
    return of_files(run, target.files(run, files.of_run(run)))


@pytest.mark.parametrize("lang", [EN, ZH])
@pytest.mark.parametrize(("judgements", "worn"), [(None, False), (1, False), (19, False), (20, True)])
def test_it_says_how_often_its_held_out_data_was_judged_upon_and_warns_where_that_was_often(
    tmp_path, lang, judgements, worn
):
    judged(tmp_path)
    target = LocalTarget(State.below(tmp_path))
    run = target.run("tang")
    record = of_files(run, target.files(run, files.of_run(run)), judgements)
    told, out = sentences.worn(record, lang), io.StringIO()
    terminal.show(record, lang, Console(file=out, width=1000))
    html = Page(page.page(record, lineage.of_run(target, run, record), lang, NOW)).text
    if judgements is None:
        assert told is None
        return
    assert told in out.getvalue()
    assert told in html
    assert str(judgements) in told or judgements == 1
    assert (lang("worn", n=20) in told) is worn


def written(workdir, words=EN):
    target, record = LocalTarget(State.below(workdir)), read(workdir)
    return page.page(record, lineage.of_run(target, record.run, record), words, NOW)


def printed(workdir, words=EN):
    out = io.StringIO()
    terminal.show(read(workdir), words, Console(file=out, width=1000))
    return out.getvalue()


def test_the_page_says_the_verdict_and_shows_gates_answers_curves_data_settings_and_lineage(tmp_path):
    judged(tmp_path)
    seen = Page(written(tmp_path))
    assert not seen.open
    assert "Passed: the one gate that applies holds." in seen.text
    assert [attrs["id"] for attrs in seen.all("h2")] == [
        "gates", "figures", "answers", "curves", "data", "settings", "lineage",
    ]  # fmt: skip
    for told in ("2.9 (2.8 to 2.97)", "<= 3", "2.95", "床前明月光", "corpus.jsonl", "optimizer.learningRate", "0.003"):
        assert told in seen.text
    for digest in ("sha256:" + "e" * 64, "c" * 64, "sha256:" + "d" * 64):
        assert digest in seen.text


JUDGED = {
    "url": "http://judge/v1",
    "model": f"m {HOSTILE} {{braces}}",
    "questions": 1200,
    "unanswered": 3,
    "troubles": [f"prompts.jsonl:4: {HOSTILE}"],
    "agreement": {"win_rate of candidate": {"orders": 0.914, "repeats": None}, "judge_score of candidate": "odd"},
}


@pytest.mark.parametrize("language", [EN, ZH], ids=["en", "zh"])
def test_what_a_judge_was_asked_and_how_far_it_agrees_with_itself_stands_with_the_gates(tmp_path, language):
    judged(tmp_path, report={"judge": JUDGED})
    html, text = written(tmp_path, language), printed(tmp_path, language)
    assert "script" not in {tag for tag, _ in Page(html).tags}
    assert "\x1b" not in html + text
    for shown in (Page(html).text, text):
        for told in ("1,200", "{braces}", "http://judge/v1", "prompts.jsonl:4", "evaluation/1/judge.jsonl", "0.91"):
            assert told in shown


@pytest.mark.parametrize("odd", [None, [], "judge", {"questions": "many", "troubles": {}, "agreement": []}])
def test_a_record_of_a_judge_that_is_damaged_hides_nothing_else(tmp_path, odd):
    judged(tmp_path, report={"judge": odd})
    assert "bits_per_byte" in printed(tmp_path)
    assert "bits_per_byte" in Page(written(tmp_path)).text


def test_the_page_needs_nothing_else(tmp_path):
    judged(tmp_path)
    html = written(tmp_path)
    seen = Page(html)
    assert not {tag for tag, _ in seen.tags} & {"script", "link", "img", "iframe", "form", "object", "base"}
    assert not [attrs for _, attrs in seen.tags if "src" in attrs or attrs.get("href", "#").partition("#")[0]]
    assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
    assert "default-src 'none'" in html
    assert "url(" not in html


@pytest.mark.parametrize("damaged", ["[" * 100_000, '{"step": 1, "loss": 1' + "0" * 400 + "}"])
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path, damaged):
    folder = judged(tmp_path)
    workspace = folder.workspace()
    manifest = workspace.artifact / "manifest.json"
    for path in (workspace.plan, workspace.prepared, manifest, workspace.report(1), workspace.samples(1)):
        path.write_text(damaged)
    (metrics,) = workspace.root.glob("stages/*/metrics.jsonl")
    metrics.write_text(metrics.read_text() + damaged)
    seen = Page(written(tmp_path))
    assert "Passed: the one gate that applies holds." in seen.text
    for name in ("plan.json", "prepare.json", "report.json", "samples.jsonl:1"):
        assert f"{name}: is damaged" in seen.text
    assert "Passed" in printed(tmp_path)


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("plan", ["stages"], HOSTILE),
        ("plan", ["stages", 0, "name"], HOSTILE),
        ("plan", ["evaluation", "gates"], 5),
        ("plan", ["digest"], []),
        ("prepared", ["stages", "pretrain", "train", "files"], 5),
        ("manifest", ["files", "model.safetensors", "size"], float("inf")),
        ("manifest", ["lineage", "base", "uri"], None),
        ("manifest", ["lineage", "base", "digest"], 5),
        ("report", ["missing"], 5),
        ("report", ["candidate"], {"scopes": [{"source": "a", "metrics": {"chrf": {"clusters": float("nan")}}}]}),
        ("samples", ["conversations"], 5),
    ],
)
def test_a_file_of_another_shape_ends_no_report(tmp_path, file, place, value):
    """Whoever writes in a workspace, or gives a model away, writes what they like."""
    folder = judged(tmp_path, samples=SAMPLES[:1], base="file:///nowhere")
    judged(tmp_path, "other")
    workspace = folder.workspace()
    path = {"report": workspace.report(1), "samples": workspace.samples(1)}.get(file) or (
        workspace.artifact / "manifest.json" if file == "manifest" else getattr(workspace, file)
    )
    document = inner = json.loads(path.read_text())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(document))
    seen = Page(html := written(tmp_path))
    assert "Passed: the one gate that applies holds." in seen.text
    assert not set("\x1b\u202e") & set(html + printed(tmp_path))
    assert "<script" not in html
    target = LocalTarget(State.below(tmp_path))
    assert list(text.lines(lineage.of_run(target, target.run("tang"))))
    assert comparison.compare(read(tmp_path), comparison.Side("other", read(tmp_path, "other"), None))


def test_what_answers_hold_is_text_turns_nothing_around_and_is_shown_in_part_where_it_is_long(tmp_path):
    samples = [
        {"conversations": [{"role": "user", "content": HOSTILE}], "answer": HOSTILE, "wanted": "x" * 2_000_000},
        {"conversations": [{"role": "user", "content": "b"}], "answer": "床" * 1_000_000, "wanted": HOSTILE},
        {"conversations": "no list", "answer": None, "wanted": 7, "slice": HOSTILE},
        {"answer": ["odd"]},
    ]
    judged(tmp_path, samples=samples, live=[{"sample": 1, "answer": HOSTILE, "cut": True}])
    html = written(tmp_path)
    seen = Page(html)
    assert "script" not in {tag for tag, _ in seen.tags}
    assert "<script>alert('床')</script>" in seen.text
    assert "\u202e" not in html
    assert "\x1b" not in html + printed(tmp_path)
    assert "⟨U+202E⟩" in seen.text
    assert "… 998,000 more characters" in seen.text
    assert "… 1,998,000 more characters" in seen.text
    assert "… the record ends here" in seen.text
    assert len(html) < 200_000
    assert {attrs.get("dir") for attrs in seen.all("pre")} == {"auto"}
    assert len(printed(tmp_path)) < 10_000


def test_names_and_reasons_of_a_run_are_text_too(tmp_path):
    reason = "its template says <b>\u202e"
    failed = gate(name="x<y>", verdict=Verdict.FAIL, threshold="<= <i>3", reason=reason)
    judged(tmp_path, gates=[failed], verdict=Verdict.FAIL, report={"missing": {"<u>": "<s>"}})
    seen = Page(written(tmp_path))
    assert not {tag for tag, _ in seen.tags} & {"y", "i", "u", "s"}
    assert "its template says <b>⟨U+202E⟩" in seen.text


@pytest.mark.parametrize("language", [Language.EN, Language.ZH])
def test_what_the_steps_warn_of_is_listed_and_nothing_where_they_warn_of_nothing(tmp_path, language):
    folder = judged(tmp_path)
    assert "warnings" not in {attrs.get("id") for attrs in Page(written(tmp_path)).all("h2")}
    status = folder.status()
    warned = Progress(warnings=["evaluation.gates[0] (<b>) can never pass", "the judge does not answer\u202e"])
    first = status.stages[0].model_copy(update={"progress": warned})
    folder.save_status(status.model_copy(update={"stages": [first, *status.stages[1:]]}))
    for told in (Page(written(tmp_path, Words(language))).text, printed(tmp_path, Words(language))):
        assert "prepare: evaluation.gates[0] (<b>) can never pass" in told
        assert "prepare: the judge does not answer⟨U+202E⟩" in told


def test_who_does_not_see_or_has_no_mouse_is_told_the_same(tmp_path):
    judged(tmp_path)
    for told in (EN, ZH):
        seen = Page(written(tmp_path, told))
        drawings = [attrs for attrs in seen.all("svg") if "aria-hidden" not in attrs]
        assert len(drawings) >= 4
        assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)
        assert all(attrs.get("scope") in ("col", "row") for attrs in seen.all("th"))
        ids = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        assert {attrs["href"].removeprefix("#") for attrs in seen.all("a")} <= set(ids)
        assert {attrs["aria-labelledby"] for attrs in seen.all("section")} <= set(ids)
        levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert all(attrs.get("tabindex") == "0" for attrs in seen.all("div") if attrs.get("role") == "region")


@pytest.mark.parametrize(
    ("confidences", "english", "chinese"),
    [
        ((0.95,), "The bar is the 90 % interval, the dot", "横条是 90 % 区间，圆点"),
        ((0.99, 0.95, 0.99), "The bar is the 90 % or 98 % interval, by the gate, the dot",
         "横条是 90 % 或 98 % 区间（依门槛而定），圆点"),
        ((0.9, 0.999, 0.55), "The bar is the 10 %, 80 % or 99.8 % interval, by the gate, the dot",
         "横条是 10 %、80 % 或 99.8 % 区间（依门槛而定），圆点"),
    ],
)  # fmt: skip
def test_the_legend_says_which_intervals_are_drawn(tmp_path, confidences, english, chinese):
    judged(tmp_path, gates=[gate(confidence=one) for one in confidences])
    assert english in Page(written(tmp_path)).text
    assert chinese in Page(written(tmp_path, ZH)).text


@pytest.mark.parametrize(
    ("of", "english", "chinese"),
    [
        ({"name": "perplexity"}, "1,234 documents", "1,234 个文档"),
        ({"name": "chat_perplexity"}, "1,234 conversations", "1,234 个对话"),
        ({"name": "exact_match"}, "1,234 prompts", "1,234 个提示"),
        ({"name": "acc", "task": "arc"}, "1,234 documents of the task", "任务的 1,234 个文档"),
    ],
)
def test_what_bounds_are_made_of_is_told_by_its_name(tmp_path, of, english, chinese):
    judged(tmp_path, gates=[gate(clusters=1234, **of)])
    html = written(tmp_path)
    assert f"<small>{english}</small>" in html
    assert f"<small>{chinese}</small>" in written(tmp_path, ZH)


def test_a_gate_is_drawn_to_scale_with_the_side_that_passes_and_the_live_version(tmp_path):
    judged(tmp_path, report={"base": {"metrics": {"bits_per_byte": 3.4}}})
    (row,) = gates.rows(read(tmp_path))
    assert (row.limit, row.live, row.base, row.at_least) == (3, 2.95, 3.4, False)
    marks = Page(charts.interval(row, "label"))
    (shaded,), (dot,) = marks.all("rect"), marks.all("circle")
    places = {attrs["class"]: float(attrs["x1"]) for attrs in marks.all("line")}
    ends = next((float(a["x1"]), float(a["x2"])) for a in marks.all("line") if a["class"] == "interval")
    limit = places["limit"]
    assert ends[0] < float(dot["cx"]) < ends[1] < limit
    assert float(shaded["x"]) + float(shaded["width"]) == pytest.approx(limit, abs=0.2)
    scale = (limit - ends[0]) / (3 - 2.8)
    assert float(dot["cx"]) == pytest.approx(ends[0] + scale * 0.1, abs=0.2)
    assert {attrs["class"] for attrs in marks.all("polygon")} == {"live", "base"}
    assert marks.all("svg")[0]["aria-label"] == "label"


def test_of_a_regression_the_difference_is_drawn_with_zero_as_the_live_version():
    row = gates.GateRow(
        "a", "a", Verdict.PASS, "<= live + 0.02", value=3, difference=-0.1, lower=-0.2, upper=0.01, limit=0.02,
        live=3.1, regression=True,
    )  # fmt: skip
    marks = Page(charts.interval(row, "label"))
    zero = next(float(attrs["x1"]) for attrs in marks.all("line") if attrs["class"] == "zero")
    limit = next(float(attrs["x1"]) for attrs in marks.all("line") if attrs["class"] == "limit")
    assert float(marks.all("circle")[0]["cx"]) < zero < limit
    assert not marks.all("polygon")
    lowest = gates.GateRow("a", "a", Verdict.PASS, ">= 3", value=3.0, limit=3.0, at_least=True)
    (shaded,) = Page(charts.interval(lowest, "x")).all("rect")
    assert float(shaded["width"]) > 0
    assert charts.interval(gates.GateRow("a", "a", Verdict.INCONCLUSIVE, ">= 3", limit=3.0), "x") == ""


@pytest.mark.parametrize(
    ("changes", "english", "chinese"),
    [
        (
            {"verdict": Verdict.FAIL},
            "Not passed: bits_per_byte is 2.9 (2.8 to 2.97), asked was <= 3.",
            "未通过: bits_per_byte 为 2.9（",
        ),
        (
            {"verdict": Verdict.INCONCLUSIVE, "value": None, "lower": None, "upper": None, "reason": "no tokens"},
            "Could not be judged: bits_per_byte has no value, asked was <= 3: no tokens.",
            "无法判定: bits_per_byte 没有数值，要求 <= 3: no tokens",
        ),
        (
            {"verdict": Verdict.FAIL, "difference": 0.2, "lower": None, "upper": None},
            "Not passed: bits_per_byte is 2.9, worse by 0.2, asked",
            "变差 0.2",
        ),
        ({"verdict": Verdict.NOT_APPLICABLE}, "Not applicable: no gate applied.", "不适用: 没有适用的门槛。"),
    ],
)  # fmt: skip
def test_the_sentence_names_the_gates_that_decided(tmp_path, changes, english, chinese):
    judged(tmp_path, gates=[gate(**changes)], verdict=changes["verdict"])
    assert sentences.verdict(read(tmp_path), EN).startswith(english)
    assert chinese in sentences.verdict(read(tmp_path), ZH)


def test_of_many_gates_the_sentence_names_a_few_and_the_terminal_says_once_what_several_have_as_reason(tmp_path):
    unsure = {"verdict": Verdict.INCONCLUSIVE, "reason": "about 12 more prompts would decide"}
    several = [gate(name="contains", source=f"source-{number}", **unsure) for number in range(30)]
    failed = gate(name="chrf", source="other", verdict=Verdict.FAIL)
    judged(tmp_path / "held", gates=[gate(), *several], verdict=Verdict.INCONCLUSIVE)
    judged(tmp_path / "failed", gates=[*several, failed], verdict=Verdict.FAIL)
    for told, more in ((EN, "; and 27 more."), (ZH, "；另有 27 个。")):
        sentence = sentences.verdict(read(tmp_path / "held"), told)
        assert sentence.endswith(more)
        assert sentence.count("contains of source") == 3
    assert sentences.reasons(read(tmp_path / "held"), EN) == [
        "Inconclusive: contains of source source-3, contains of source source-4, contains of source source-5, "
        "and 24 more: about 12 more prompts would decide"
    ]
    (reason,) = sentences.reasons(read(tmp_path / "failed"), EN)
    assert "source-0, " in reason
    assert "and 27 more: about" in reason
    assert printed(tmp_path / "failed").count("about 12 more prompts would decide") == 1
    assert written(tmp_path / "failed").count("about 12 more prompts would decide") == 30


def test_nothing_of_a_table_is_cut_off_at_a_narrow_terminal(tmp_path):
    name = "a_task_with_a_name_that_is_as_long_as_a_name_may_be"
    judged(tmp_path, gates=[gate(name="exact_match,flexible-extract", task=name)])
    out = io.StringIO()
    terminal.show(read(tmp_path), EN, Console(file=out, width=60))
    assert "…" not in out.getvalue()
    first = "".join(line[:18].strip() for line in out.getvalue().splitlines())
    assert name in first.replace(" ", "")


def test_a_gate_on_a_narrow_page_says_what_each_figure_is(tmp_path):
    judged(tmp_path)
    cells = [attrs["data-of"] for attrs in Page(written(tmp_path, ZH)).all("td") if "data-of" in attrs]
    assert cells == ["区间与要求", "测得", "要求", "线上", "判定"]


def steps(*states):
    names = ("prepare", "pretrain", "sft", "export", "evaluate")
    return [StepStatus(name=name, state=state) for name, state in zip(names, states, strict=False)]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (RunStatus(), "Under way: it is Pending, 0 of 0 steps are done, and there is no verdict yet."),
        (
            RunStatus(phase=Phase.TRAINING, stages=steps(StepState.SUCCEEDED, StepState.RUNNING)),
            "Under way: it is Training, 1 of 2 steps are done, and there is no verdict yet.",
        ),
        (
            RunStatus(
                phase=Phase.FAILED,
                stages=[StepStatus(name="sft", state=StepState.FAILED, message="BadData: chat.jsonl:3")],
            ),
            "Ended before it was judged: sft: BadData: chat.jsonl:3",
        ),
        (RunStatus(phase=Phase.COMPLETED), "Without a verdict: it ended as Completed and was not evaluated."),
    ],
)
def test_a_run_without_a_verdict_says_why_and_shows_what_it_has(tmp_path, status, said):
    entered(tmp_path, status=status, curves={"pretrain": [{"step": 1, "loss": 4.5}]})
    assert said in printed(tmp_path)
    seen = Page(written(tmp_path))
    assert said in seen.text
    assert "asked: bits_per_byte <= 3" in seen.text
    assert "No prompt was answered." in seen.text
    assert "optimizer.learningRate" in seen.text
    assert "training from 4.5 to 4.5" in seen.all("svg")[0]["aria-label"]


def test_a_run_that_an_earlier_release_judged_shows_its_figures_without_bounds(tmp_path):
    entered(tmp_path, status=rejected())
    assert "bits_per_byte  4.2" in printed(tmp_path)
    seen = Page(written(tmp_path))
    assert "Not passed: bits_per_byte is 4.2, asked was <= 3." in seen.text
    assert len([attrs for attrs in seen.all("svg") if attrs["class"] == "gate"]) == 1


def test_files_that_are_damaged_are_named_and_the_rest_is_shown(tmp_path):
    folder = judged(tmp_path)
    workspace = folder.workspace()
    workspace.report(1).write_text("[]")
    with workspace.samples(1).open("a") as file:
        file.write("{half a row")
    seen = Page(written(tmp_path))
    assert "evaluation/1/report.json: is damaged" in seen.text
    assert "evaluation/1/samples.jsonl:4: is damaged" in seen.text
    assert "床前明月光" in seen.text


def test_figures_of_sources_and_slices_are_shown_with_their_bounds(tmp_path):
    poems = {"value": 2.5, "lower": 2.4, "upper": 2.6, "clusters": 20, "n": 900}
    own = [{"source": "poems", "slice": "李白", "metrics": {"bits_per_byte": poems, "odd": 1}}, "damaged"]
    live = [{"source": "poems", "slice": "李白", "metrics": {"bits_per_byte": {"value": 2.625}}}]
    judged(tmp_path, report={"candidate": {"scopes": own}, "baseline": {"metrics": {}, "scopes": live}})
    seen = Page(written(tmp_path))
    assert "Sources, slices and tasks" in seen.text
    assert "source poems, slice 李白" in seen.text
    assert "2.5 (2.4 to 2.6)" in seen.text
    assert "2.625" in seen.text


def test_a_gate_on_a_part_has_what_live_and_base_have_of_that_part_beside_it(tmp_path):
    def other(value):
        told = {"contains": {"value": value}}
        return {"metrics": {"contains": 0.9}, "scopes": [{"source": "sums", "slice": None, "metrics": told}]}

    judged(
        tmp_path,
        gates=[gate(name="contains", source="sums", value=0.5, threshold=">= 0.4")],
        report={"baseline": other(0.375), "base": other(0.125)},
    )
    seen = Page(written(tmp_path))
    assert "contains of source sums" in seen.text
    assert "0.375" in seen.text
    assert "0.125" in seen.text
    assert re.search(r"contains of source sums\s+0\.5 \(.*\)\s+>= 0\.4\s+0\.375\s+0\.125\s+Pass", printed(tmp_path))


def test_a_page_in_chinese_has_no_english_word_of_ours(tmp_path):
    judged(tmp_path)
    html = written(tmp_path, ZH)
    assert '<html lang="zh-Hans">' in html
    assert "Noto Sans CJK SC" in html
    for heading in ("门槛", "回答", "曲线", "数据", "超参数", "谱系"):
        assert f">{heading}</h2>" in html
    ours = [english for english, chinese in words.keys().values() if len(english) > 12 and "{" not in english]
    assert not [english for english in ours if english in Page(html).text]


def test_both_languages_have_the_same_places_in_every_phrase():
    def places(text):
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    for key, (english, chinese) in words.keys().items():
        assert places(english) == places(chinese), key
        assert english.strip(), key
        assert chinese.strip(), key


@pytest.mark.parametrize(
    "values", [[1.0], [2.0, 2.0], [1.0, math.nan, 3.0, math.inf], [0.0] * 3, [1.0] * 99 + [1e9], [-1e-9, 1e-9]]
)
def test_curves_of_any_figures_are_drawn_within_the_picture(values):
    series = charts.Series("a<b", [Point(step, value) for step, value in enumerate(values, start=1)])
    seen = Page(charts.curves("t", [series], "label"))
    assert "nan" not in seen.all("polyline")[-1]["points"]
    for place in " ".join(attrs["points"] for attrs in seen.all("polyline")).split():
        x, y = map(float, place.split(","))
        assert 0 <= x <= 680
        assert 0 <= y <= 210


def test_a_long_curve_is_drawn_with_few_points_and_keeps_its_peaks():
    points = [Point(step, 9.0 if step == 5000 else 1.0) for step in range(1, 100_001)]
    drawn = charts.curves("t", [charts.Series("a", points)], "label")
    assert len(drawn) < 20_000
    assert len({place.split(",")[1] for place in Page(drawn).all("polyline")[0]["points"].split()}) > 1
    assert charts.curves("t", [charts.Series("a", [])], "label") == ""


def test_it_says_who_judged_and_by_what(tmp_path):
    judge = {
        "model": "large", "url": "http://judge:8000/v1", "criteria": "Be kind.", "compare": "Reference", "repeats": 2,
        "questions": 96, "unanswered": 0, "controls": {"Pair": {"shown": 8, "told_apart": 7}},
        "agreement": {"win_rate of candidate": {"orders": 0.95, "repeats": None}},
    }  # fmt: skip
    judged(tmp_path, report={"judge": judge})
    told = sentences.judge(read(tmp_path), EN)
    assert told[0].startswith("The judge large at http://judge:8000/v1 had 96 questions")
    assert told[1].startswith("It compared with Reference. Repeats of each question: 2. Its criteria are sha256:")
    assert told[2].startswith("It found nearly all answers alike, and told 7 of 8 answers to another prompt")
    assert told[3] == "win_rate of candidate: both orders of a pair agree in 0.95"
    assert len(sentences.judge(read(tmp_path), ZH)) == 4
