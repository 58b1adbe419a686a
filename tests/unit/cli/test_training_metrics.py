import math

from tests.unit.cli.evidence import entered, rows, run_named

from slipway.training_metrics import Point, read_run, read_stage, stage_metrics


def test_rows_become_curves_by_step():
    stage = stage_metrics("a", rows([3.0, 2.0], {2: 2.5}))
    assert stage.loss == (Point(1, 3.0), Point(2, 2.0))
    assert stage.validation_loss == (Point(2, 2.5),)
    assert stage.last_step == 2


def test_a_row_cut_off_in_the_middle_and_names_of_either_spelling_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3.0, "validation_loss": 2.0}\nnoise\n[1]\n{"step": 2, "lo')
    stage = read_stage("a", path)
    assert stage.loss == (Point(1, 3.0),)
    assert stage.validation_loss == (Point(1, 2.0),)


def test_steps_that_were_done_again_count_as_they_were_done_last():
    first = [{"step": step, "loss": 9.0} for step in range(1, 8)]
    again = [{"step": step, "loss": 1.0} for step in range(4, 7)]
    stage = stage_metrics("a", [*first, *again])
    assert [point.step for point in stage.loss] == [1, 2, 3, 4, 5, 6]
    assert [point.value for point in stage.loss] == [9, 9, 9, 1, 1, 1]


def test_a_loss_that_is_no_number_is_kept():
    stage = stage_metrics("a", [{"step": 1, "loss": "nan"}, {"step": 2, "loss": "Infinity"}, {"step": 3, "loss": None}])
    assert math.isnan(stage.loss[0].value)
    assert math.isinf(stage.loss[1].value)
    assert len(stage.loss) == 2


def test_stages_that_logged_nothing_are_left_out(tmp_path):
    folder = entered(tmp_path, curves={"sft": rows([1.0])})
    assert [stage.name for stage in read_run(run_named(), folder.workspace())] == ["sft"]
