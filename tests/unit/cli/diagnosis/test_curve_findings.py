import math

import pytest
from tests.unit.cli.evidence import curves, run_named

from slipway.diagnosis.curve_findings import diagnose_stage, window
from slipway.diagnosis.finding import Level


def stage(**update):
    return run_named().spec.stages[0].model_copy(update=update)


def falling(start, end, steps=100):
    return [end + (start - end) * math.exp(-5 * step / steps) for step in range(steps)]


VALIDATION_RISES = {20: 3.0, 40: 2.5, 60: 2.6, 80: 2.9, 100: 3.2}

CASES = {
    "falls": (falling(8, 2), None, {}, "the loss falls", "from", ""),
    "is flat": (
        [8.0, 8.1, 7.9] * 30,
        None,
        {},
        "the loss does not fall",
        "after 90 steps; learningRate is 0.003",
        "learningRate",
    ),
    "rises again": (
        falling(8, 2) + [2 + step / 10 for step in range(60)],
        None,
        {},
        "the loss diverges",
        "at the lowest",
        "0.001",
    ),
    "rises from the start": (
        [8 + step / 10 for step in range(60)],
        None,
        {},
        "the loss diverges",
        "at the end",
        "learningRate",
    ),
    "ends in NaN": (
        [*falling(8, 2), math.nan],
        None,
        {},
        "the loss is no number any more",
        "nan at step 101",
        "warmupRatio",
    ),
    "is infinite": (
        [8.0, math.inf, *falling(8, 2)],
        None,
        {},
        "the loss is no number any more",
        "inf at step 2",
        "learningRate",
    ),
    "overfits": (
        falling(8, 1),
        VALIDATION_RISES,
        {},
        "it overfits",
        "2.500 at step 40 and 3.200 at step 100",
        "select: Best",
    ),
    "overfits and keeps the best": (
        falling(8, 1),
        VALIDATION_RISES,
        {"select": "Best"},
        "it overfits towards the end",
        "2.500",
        "earlyStop",
    ),
    "has too few steps": (
        falling(8, 2, steps=12),
        None,
        {},
        "too few optimizer steps to learn much",
        "12 steps",
        "batch.tokens",
    ),
    "could go on": ([8 - step / 20 for step in range(100)], None, {}, "the loss was still falling", "last", "epochs"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_curve_is_named_for_what_it_is_with_its_figures_and_what_to_change(case):
    losses, validation, update, title, figure, fix = CASES[case]
    findings = diagnose_stage(stage(**update), curves(losses, validation), ended=True)
    [found] = [finding for finding in findings if finding.title == title]
    assert figure in found.figure
    assert fix in found.fix
    problems = [finding.title for finding in findings if finding.level is Level.PROBLEM]
    assert problems == ([title] if found.level is Level.PROBLEM else [])


@pytest.mark.parametrize(
    ("losses", "validation"),
    [
        (falling(8, 2), {50: 3.0, 100: 2.4}),
        ([0.01 + 0.002 * (step % 3) for step in range(60)], None),
        (falling(8, 2), {20: 2.50, 40: 2.51, 60: 2.55}),
        (falling(8, 2) + [2.0, 2.3, 1.9, 2.2] * 10, None),
    ],
    ids=["validation falls too", "nothing left to learn", "validation wavers", "noise at the end"],
)
def test_a_sound_stage_has_no_problem(losses, validation):
    findings = diagnose_stage(stage(), curves(losses, validation), ended=True)
    assert [finding for finding in findings if finding.level is Level.PROBLEM] == []


def test_a_stage_at_work_is_not_blamed_for_what_it_has_not_done_yet():
    assert [finding.title for finding in diagnose_stage(stage(), curves([8.0, 7.9]), ended=False)] == ["the loss falls"]
    assert diagnose_stage(stage(), curves([]), ended=False) == []


def test_a_stage_without_validation_is_told_so():
    blind = stage(data=stage().data.model_copy(update={"validation": None}))
    assert "data.validation is left out" in [f.figure for f in diagnose_stage(blind, curves(falling(8, 2)), ended=True)]


def test_the_ends_of_a_curve_are_means():
    curve = curves([float(step) for step in range(100)]).loss
    assert window(curve, 0) == 4.5
    assert window(curve, -1) == 94.5
    assert math.isnan(window((), 0))
