import io

from rich.console import Console

from slipway.screen import view
from slipway_core.resources.events import Event
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus

PREPARE = StepStatus(
    name="prepare",
    state=StepState.SUCCEEDED,
    metrics={
        "sft_train_truncated": 1,
        "sft_train_documents": 9,
        "pre-1_validation_skipped": 2000,
        "sft_train_split": 0,
        "sft_train_opened": 3,
    },
)
NOTES = [
    "sft, train data: 1 row longer than maxLength: cut at the last answer that fits",
    "pre-1, validation data: 2,000 rows left out: no answer ends within maxLength",
    "sft, train data: 3 rows opened by the assistant: its first turn is read and not learned",
]


def test_what_became_of_rows_that_do_not_fit_is_said_in_words():
    assert view.unfit_rows(PREPARE) == NOTES


def test_held_out_rows_are_of_no_stage_and_are_left_out_for_what_was_learned():
    def said(count, name="evaluation_dropped"):
        prepare = PREPARE.model_copy(update={"metrics": {name: count, "evaluation_documents": 1}})
        return view.unfit_rows(prepare)

    why = "left out: in the training data, or in what the base model learned from (onOverlap: Drop)"
    assert said(30) == [f"held-out data: 30 rows {why}"]
    assert said(1) == [f"held-out data: 1 row {why}"]
    assert said(0) == []
    long = "evaluation, train data: 2 rows left out: longer than maxLength"
    assert said(2, "evaluation_train_dropped") == [long], "a stage may have this name"


def test_it_is_shown_once_when_prepare_ends_in_a_terminal_and_in_a_log():
    status = RunStatus(phase=Phase.TRAINING, stages=[PREPARE])
    ended = (Event("Normal", "StepSucceeded", "prepare is done (attempt 1)"),)
    for shown in (view.TableView, view.LineView):
        out = io.StringIO()
        with shown(Console(file=out, width=200)) as screen:
            screen(status, ended)
            screen(status, ())
        assert [out.getvalue().count(note) for note in NOTES] == [1, 1, 1]


def test_the_end_of_a_failed_run_is_left_to_its_last_words():
    out = io.StringIO()
    failed = StepStatus(name="prepare", state=StepState.FAILED, message="BadData: a.jsonl:3: no 'text'")
    status = RunStatus(phase=Phase.FAILED, stages=[failed])
    with view.LineView(Console(file=out, width=200)) as screen:
        screen(status, (Event("Warning", "BadInput", f"prepare: {failed.message}"),))
    assert "a.jsonl" not in out.getvalue()
