"""A verdict lets a model through, so it is made for nothing but a pass."""

from __future__ import annotations

import json

import pytest
from tests.unit.operator.manifests.samples import DIGEST, a_plan, a_verdict

from slipway_core.resources.status import Verdict
from slipway_operator import names


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.PASS])
def test_invariant_a_there_is_no_verdict_that_is_no_pass(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match="no pass"):
        a_verdict(a_plan(), verdict=verdict)


def test_invariant_a_a_pass_of_another_artifact_is_none_of_this_one() -> None:
    with pytest.raises(ValueError, match="no pass"):
        a_verdict(a_plan(), judged="sha256:" + "b" * 64)


def test_it_says_what_was_judged_and_by_whom() -> None:
    found = a_verdict(a_plan())
    assert found["immutable"] is True
    assert found["metadata"]["labels"][names.DIGEST] == "a" * 63
    data = found["data"]
    assert (data["verdict"], data["digest"], data["run"], data["judgedAt"]) == (
        "Pass",
        DIGEST,
        "demo",
        "2026-01-01T00:00:00Z",
    )
    assert json.loads(data["evaluation"])["scoredTokens"] == 1000


def test_it_outlives_its_run() -> None:
    metadata = a_verdict(a_plan())["metadata"]
    assert "ownerReferences" not in metadata
    assert names.RUN_UID not in metadata["labels"]
