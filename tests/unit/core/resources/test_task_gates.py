"""Gates on tasks."""

import pytest

from slipway_core.resources.evaluation import Gate


@pytest.mark.parametrize(
    "name", ["acc", "rougeL_acc", "0_accuracy", "per_option_accuracy_A", "exact_match,strict-match"]
)
def test_a_metric_can_be_named_as_the_harness_does(name: str) -> None:
    said = {"metric": name, "task": "poems", "min": 0.5}
    assert Gate.model_validate(said, by_alias=True, by_name=False).metric == name


def test_of_no_task_a_metric_is_one_of_ours() -> None:
    with pytest.raises(ValueError, match="no such metric"):
        Gate.model_validate({"metric": "rougeL_acc", "min": 0.5}, by_alias=True, by_name=False)
