import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.protocol import exit_codes, step_result
from slipway_core.protocol.estimate import Estimate, Figure
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.sketch import HASHES
from slipway_core.protocol.step_result import EvaluationResult, ResultError, StepError, StepResult
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import METRICS
from slipway_core.resources.status import JudgeStatus, bounded_warnings


@given(st.text(max_size=2048))
def test_a_result_always_fits_and_keeps_its_kind(message):
    text = step_result.encode(StepResult(step="s", attempt=1, error=StepError(kind="Bad", message=message)))
    assert len(text.encode()) <= step_result.RESULT_LIMIT
    assert step_result.decode(text).error.kind == "Bad"


def test_a_long_message_is_cut_and_says_so():
    text = step_result.encode(StepResult(step="s", attempt=1, error=StepError(kind="Bad", message="夜" * 2048)))
    assert step_result.decode(text).error.message.endswith("(cut)")


@pytest.mark.parametrize("text", ["", "  \n", "nonsense", '{"step": "s"}', '{"step": 1, "attempt": 1}', "[]"])
def test_garbage_is_never_a_result(text):
    with pytest.raises(ResultError, match=r"result"):
        step_result.decode(text)


def test_what_as_many_gates_as_there_may_be_are_judged_by_fits_whatever_they_are_called():
    """Nothing of it is cut; what no gate needs gives way, since the report has it."""
    gates = [Gate(metric="chat_bits_per_byte", source="s" * 63, slice="t" * 63, max_regression=0.5) for _ in range(32)]
    digest = "sha256:" + "f" * 64
    metrics = dict.fromkeys(METRICS, -1234.5678901234567)
    estimate = Estimate(-1234.56789, -1234.56789e-9, -1234.56789, 123_456_789, 1_234_567)
    figure = Figure(-1234.56789, -1234.56789, 123_456_789, 3)
    result = StepResult(
        step="evaluate",
        attempt=99_999,
        metrics=metrics,
        missing=dict.fromkeys((gate.metric for gate in gates), "夜" * 512),
        evaluation=EvaluationResult(
            number=99_999,
            artifact_digest=digest,
            data_digest=digest,
            baseline_digest=digest,
            baseline_metrics=metrics,
            baseline_note="n" * 512,
            base_digest=digest,
            base_metrics=metrics,
            parity_digest=digest,
            judge=JudgeStatus(orders=0.8765, repeats=0.8765),
            estimates=[estimate, None] + [estimate] * 30,
            figures=[figure] * 32,
            reasons=["夜" * 300] * 4,
        ),
    )
    told = step_result.decode(step_result.encode(result))
    assert told.evaluation is not None
    assert result.evaluation is not None
    assert told.evaluation.estimates == result.evaluation.estimates
    assert told.evaluation.figures == result.evaluation.figures
    assert told.evaluation.judge == result.evaluation.judge
    assert [reason[:5] for reason in told.evaluation.reasons] == ["夜" * 5] * 4
    small = result.model_copy(
        update={"missing": {}, "evaluation": result.evaluation.model_copy(update={"figures": [], "reasons": []})}
    )
    assert step_result.decode(step_result.encode(small)).evaluation.estimates == result.evaluation.estimates


DIGESTS = [f"sha256:{number:064x}" for number in range(32)]


def prepared(**more):
    """What prepare tells of as many gates as there may be."""
    sketch = "0123456789abcdef" * HASHES
    return StepResult(step="prepare", held_out_digest=DIGESTS[0], held_out_sketch=sketch, gate_data=DIGESTS, **more)


def test_the_data_of_as_many_gates_as_there_may_be_fits_beside_the_sketch_and_metrics_give_way():
    metrics = {f"a-stage-with-a-long-name-{number:03}_train_documents": 123456.0 for number in range(45)}
    result = prepared(attempt=99_999, metrics=metrics)
    told = step_result.decode(step_result.encode(result))
    assert (told.gate_data, told.held_out_sketch) == (DIGESTS, result.held_out_sketch)
    few = result.model_copy(update={"gate_data": DIGESTS[:4]})
    assert step_result.decode(step_result.encode(few)).metrics != {}, "no more gives way than must"


def test_what_was_learned_from_gives_way_to_the_data_of_the_gates_only_where_both_do_not_fit():
    learned = {f"stage-{number:02}/{split}": DIGESTS[0] for number in range(15) for split in ("train", "validation")}
    result = prepared(attempt=1, metrics={f"m{number}": 1.0 for number in range(100)}, training_data=learned)
    told = step_result.decode(step_result.encode(result))
    assert (told.gate_data, told.held_out_sketch, told.training_data) == (DIGESTS, result.held_out_sketch, None)
    told = step_result.decode(step_result.encode(result.model_copy(update={"gate_data": DIGESTS[:2]})))
    assert told.training_data == {place: digest for place, digest in learned.items() if place.endswith("/train")}


def test_a_result_that_was_cut_off_is_recognised():
    whole = '{"step":"s","attempt":1,"metrics":{' + ",".join(f'"m{i}":1.0' for i in range(600))
    with pytest.raises(ResultError, match="cut off"):
        step_result.decode(whole[: step_result.RESULT_LIMIT])


def test_numbers_that_are_not_finite_are_left_out_with_the_reason():
    finite, missing = step_result.split_finite({"a": 1.0, "b": math.nan, "c": math.inf})
    assert finite == {"a": 1.0}
    assert missing == {"b": "is nan", "c": "is inf"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, ExitClass.DONE), (2, ExitClass.BAD_INPUT), (75, ExitClass.INTERRUPTED), (76, ExitClass.LOST_PEERS),
        (1, ExitClass.FAILED), (137, ExitClass.FAILED), (139, ExitClass.FAILED), (-9, ExitClass.FAILED),
    ],
)  # fmt: skip
def test_the_class_of_an_exit_code(code, expected):
    assert exit_codes.classify(code) is expected


def test_the_gravest_class_stands_for_all_ranks():
    assert exit_codes.gravest_code([0, 76, 75]) == 75
    assert exit_codes.gravest_code([76, 1, 75]) == 1
    assert exit_codes.gravest_code([1, 2, 137]) == 2
    assert exit_codes.gravest([ExitClass.DONE, ExitClass.LOST_PEERS]) is ExitClass.LOST_PEERS
    assert exit_codes.shell_code(-9) == 137


LONG = [f"{number} {'夜' * 508}" for number in range(8)]
"""As much as a step may warn of, in the script that takes most bytes."""


def test_warnings_give_way_to_what_gates_are_judged_by_and_always_say_that_there_are_some():
    metrics = {f"learn_train_{number}": 1.0 for number in range(45)}
    result = prepared(attempt=1, metrics=metrics, warnings=LONG)
    told = step_result.decode(step_result.encode(result))
    assert (told.gate_data, told.held_out_sketch) == (DIGESTS, result.held_out_sketch)
    assert told.warnings == ["warnings are in the log of this step"]
    few = step_result.decode(step_result.encode(result.model_copy(update={"gate_data": DIGESTS[:20]})))
    assert few.warnings is not None
    assert few.warnings[0].startswith("0 夜夜")
    assert few.warnings[-1] == "more warnings are in the log of this step"
    assert few.held_out_sketch == result.held_out_sketch


def test_a_few_warnings_stay_whole_beside_all_that_prepare_tells_of_a_usual_run():
    metrics = {f"learn_train_{number}": 1.0 for number in range(45)}
    said = ["evaluation.gates[0] (exact_match) can never pass: " + "x" * 300] * 2
    result = prepared(attempt=1, metrics=metrics, warnings=said).model_copy(update={"gate_data": DIGESTS[:4]})
    assert step_result.decode(step_result.encode(result)).warnings == said


def test_the_warnings_of_an_evaluation_and_of_a_step_that_failed_fit_too():
    judged = EvaluationResult(number=1, artifact_digest=DIGESTS[0], reasons=["x" * 200] * 16)
    text = step_result.encode(StepResult(step="evaluate", attempt=1, evaluation=judged, warnings=LONG))
    assert step_result.decode(text).warnings
    error = StepError(kind="BadData", message="夜" * 2048)
    told = step_result.decode(step_result.encode(StepResult(step="s", attempt=1, error=error, warnings=LONG)))
    assert told.error is not None
    assert (told.error.kind, told.warnings) == ("BadData", ["warnings are in the log of this step"])


def judged(reasons: list[str], **more) -> EvaluationResult:
    """What is told of as many gates as there may be, each figure of the longest, and as many of them with a reason."""
    estimate = Estimate(-1234.56789, -1234.56789e-9, -1234.56789, 123_456_789, 1_234_567)
    figures = [Figure(-1234.56789, -1234.56789, 123_456_789, number % len(reasons) if reasons else None)
               for number in range(32)]  # fmt: skip
    digest = DIGESTS[31]
    return EvaluationResult(
        number=99_999,
        artifact_digest=digest,
        data_digest=digest,
        scored_tokens=123_456_789_012,
        baseline_digest=digest,
        baseline_overlap=123_456,
        base_digest=digest,
        recall_overlap=123_456,
        parity_digest=digest,
        judge=JudgeStatus(orders=0.8765, repeats=0.8765, silent=True),
        estimates=[estimate] * 32,
        figures=figures,
        reasons=reasons,
        **more,
    )


@pytest.mark.parametrize("warnings", [None, ["夜" * 500], LONG], ids=["no warning", "one", "eight"])
@pytest.mark.parametrize("note", [None, "夜" * 500, "\\" * 500], ids=["no note", "note", "escapes"])
@pytest.mark.parametrize("count", [0, 1, 4, 8, 16, 32])
def test_an_evaluation_is_never_lost_for_want_of_room(count, note, warnings):
    whole = judged([f"{number} {'夜' * 300}" for number in range(count)], baseline_note=note)
    text = step_result.encode(StepResult(step="evaluate", attempt=99_999, evaluation=whole, warnings=warnings))
    assert len(text.encode()) <= step_result.RESULT_LIMIT
    told = step_result.decode(text)
    assert told.evaluation is not None
    assert (told.evaluation.estimates, told.evaluation.judge) == (whole.estimates, whole.judge)
    assert [figure[:3] for figure in told.evaluation.figures] == [figure[:3] for figure in whole.figures]
    if count or note is None:
        assert bool(told.warnings) == bool(warnings), "that there are some has room"
    for figure, before in zip(told.evaluation.figures, whole.figures, strict=True):
        if before.reason is None:
            assert figure.reason is None
            continue
        reason = told.evaluation.reasons[figure.reason]
        assert reason[:4] == whole.reasons[before.reason][:4] or reason == "the evaluation's report says why"


def test_warnings_and_then_reasons_go_whole_before_a_result_is_lost():
    left: list[tuple[bool, bool]] = []
    for number in range(20):
        short, long = Figure(-1234.56789, -1234.56789, 123_456_789, 1), Figure(-1.23456789e-100, -1.23456789e-100, 1, 1)
        figures = [long._replace(tokens=123_456_789)] * number + [short] * (32 - number)
        whole = judged(["夜" * 300] * 2).model_copy(update={"figures": figures})
        text = step_result.encode(StepResult(step="evaluate", attempt=99_999, evaluation=whole, warnings=LONG))
        assert len(text.encode()) <= step_result.RESULT_LIMIT, number
        told = step_result.decode(text)
        assert told.evaluation is not None
        assert told.evaluation.estimates == whole.estimates
        assert [figure[:3] for figure in told.evaluation.figures] == [figure[:3] for figure in figures]
        assert told.evaluation.judge == whole.judge
        left.append((bool(told.warnings), bool(told.evaluation.reasons)))
    assert list(dict.fromkeys(left)) == [(True, True), (False, True), (False, False)]


def test_a_result_says_how_many_warnings_it_has_not_whole_and_nothing_where_it_has_them():
    few = StepResult(step="prepare", attempt=1, warnings=["a", "b"])
    assert step_result.decode(step_result.encode(few)) == few
    assert "warningsFound" not in step_result.encode(few)
    told = step_result.decode(step_result.encode(prepared(attempt=1, warnings=LONG)))
    assert (told.warnings, told.warnings_found) == (["warnings are in the log of this step"], 8)
    more = bounded_warnings([f"{number} {'夜' * 508}" for number in range(20)])
    told = step_result.decode(step_result.encode(prepared(attempt=1, warnings=more)))
    assert told.warnings_found == 9


def test_warnings_are_kept_once_each_in_a_line_and_no_more_of_them_than_a_record_holds():
    assert bounded_warnings(["a\n  b", "a b", "c"]) == ["a b", "c"]
    many = bounded_warnings([f"{number}" for number in range(20)])
    assert many == [*"0123456", "more warnings are in the log of this step"]
    (long,) = bounded_warnings(["x" * 2000])
    assert len(long) == 512
    assert long.endswith("…")
