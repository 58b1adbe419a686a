"""What the step publish is told of a verdict."""

from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import EvaluationStatus, MetricStatus, Verdict


def test_gates_on_rows_of_the_same_name_are_figures_of_their_own_for_a_tracker():
    wheres = [{}, {"source": "sums"}, {"slice": "sums"}, {"task": "sums"}, {"source": "a", "slice": "sums"}]
    metrics = [
        MetricStatus(name="exact_match", value=n, threshold=">= 0", verdict=Verdict.PASS, **where)
        for n, where in enumerate(wheres)
    ]
    metrics.append(
        MetricStatus(name="exact_match,strict-match", value=1, threshold=">= 0", verdict=Verdict.PASS, task="gsm8k")
    )
    told = Judged.parse(Judged.of(EvaluationStatus(number=1, verdict=Verdict.PASS, metrics=metrics)).to_json())
    assert [one.key for one in told.metrics] == [
        "exact_match",
        "exact_match/source/sums",
        "exact_match/slice/sums",
        "exact_match/task/sums",
        "exact_match/source/a/slice/sums",
        "exact_match.strict-match/task/gsm8k",
    ]
