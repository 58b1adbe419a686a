"""The plan is kept as it is, by no one's leave but the uid's."""

from __future__ import annotations

import pytest
from tests.unit.operator.manifests.samples import UID, a_plan

from slipway_core import plan as plans
from slipway_operator import names
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.run.plan_config_map import plan_config_map


def test_invariant_e_it_holds_the_plan_and_cannot_be_edited() -> None:
    plan = a_plan()
    found = plan_config_map(plan)
    assert found["immutable"] is True
    assert plans.load(found["data"]["plan.json"]) == plan


def test_it_is_found_by_its_run_and_outlives_it() -> None:
    metadata = plan_config_map(a_plan())["metadata"]
    assert metadata["labels"][names.RUN_UID] == UID
    assert metadata["labels"][names.ROLE] == "plan"
    assert "ownerReferences" not in metadata


def test_a_run_of_the_same_name_has_another() -> None:
    other = a_plan().model_copy(update={"run": a_plan().run.model_copy(update={"uid": "1" + UID[1:]})})
    assert plan_config_map(other)["metadata"]["name"] != plan_config_map(a_plan())["metadata"]["name"]


def test_a_plan_that_does_not_fit_says_what_to_do() -> None:
    # As many and as long as the API takes, in letters of three bytes.
    data = [{"uri": f"file://{'诗' * 1000}{number}.jsonl"} for number in range(64)]
    stages = [{"name": f"s{number}", "data": {"train": data}} for number in range(16)]
    with pytest.raises(ManifestError, match="name folders or globs") as caught:
        plan_config_map(a_plan(stages=stages))
    assert caught.value.reason == "PlanTooLarge"
