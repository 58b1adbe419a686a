import math

import pytest
from matplotlib.figure import Figure
from tests.unit.cli.evidence import rows

from slipway.screen import plotting
from slipway.training_metrics import StageMetrics, stage_metrics


def panels(stages):
    figure = Figure()
    plotting.fill(figure, "tang", stages)
    return figure.axes


def test_stages_are_drawn_one_after_the_other():
    stages = [
        stage_metrics("pretrain", rows([4.0, 3.0, 2.0], {2: 3.5})),
        stage_metrics("sft", rows([2.0, 1.0], {2: 1.5})),
    ]
    losses, rates, speeds = panels(stages)
    training = [line for line in losses.get_lines() if line.get_color() == plotting._TRAIN]
    assert [list(line.get_xdata()) for line in training] == [[1, 2, 3], [4, 5]]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training", "validation"]
    assert {"pretrain", "sft"} <= {text.get_text() for text in losses.texts}
    assert rates.get_lines()
    assert speeds.get_lines()


def test_what_only_some_trainings_know_has_a_panel_where_one_does():
    known = {"accuracy": 0.5, "margin": 0.1, "mfu": 0.4, "peakMemoryBytes": 3 << 30}
    shares = {"dataShare": 0.1, "communicationShare": 0.2, "validationShare": 0.0, "checkpointShare": 0.3}
    preferred = [row | known | shares for row in rows([1.0, 0.5])]
    preferred[1]["validationAccuracy"] = 0.75
    axes = panels([stage_metrics("sft", rows([2.0, 1.0])), stage_metrics("prefer", preferred)])
    assert [panel.get_ylabel() for panel in axes] == [
        "loss (nats a token)",
        "learning rate",
        "tokens/s",
        "accuracy",
        "margin",
        "MFU, %",
        "time beside\ncomputing, %",
        "peak memory, GiB",
    ]
    _, _, _, accuracy, _, utilisation, time, memory = axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in accuracy.get_lines()]
    assert ([3, 4], [0.5, 0.5]) in lines
    assert ([4], [0.75]) in lines, "the validation's"
    assert ([3, 4], [40, 40]) in [(list(line.get_xdata()), list(line.get_ydata())) for line in utilisation.get_lines()]
    highest = max(path.vertices[:, 1].max() for area in time.collections for path in area.get_paths())
    assert highest == pytest.approx(60), "one on the other"
    assert [text.get_text() for text in time.get_legend().get_texts()] == [
        "data",
        "communication",
        "validation",
        "checkpoint",
    ]
    assert ([3, 4], [3, 3]) in [(list(line.get_xdata()), list(line.get_ydata())) for line in memory.get_lines()]


def test_one_step_that_went_through_the_roof_does_not_hide_the_rest():
    losses, *_ = panels([stage_metrics("a", rows([3.0] * 98 + [9000.0] + [2.5]))])
    assert losses.get_ylim()[1] < 10


@pytest.mark.parametrize("losses", [[3.0], [math.nan, 3.0], [math.nan, math.inf], []])
def test_a_short_or_broken_curve_is_drawn_too(losses, tmp_path):
    stage = stage_metrics("a", rows(losses)) if losses else StageMetrics("a")
    plotting.draw("tang", [stage], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant():
    assert plotting.smooth([2.0] * 5, span=10) == pytest.approx([2.0] * 5)
    assert plotting.smooth([8.0, 0.0], span=10)[0] == 8.0
    assert plotting.smooth([], span=10) == []
