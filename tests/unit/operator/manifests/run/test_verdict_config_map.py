"""What is kept of a judgement: the statement, where it is found, and nothing that somebody did not judge."""

from __future__ import annotations

import json

import pytest
from tests.unit.core.statements import KEY, TRUSTED
from tests.unit.operator.manifests.samples import DIGEST, UID, a_plan, a_verdict

from slipway_core.protocol import trust
from slipway_core.resources.status import Verdict
from slipway_operator import names

OTHER = "sha256:" + "b" * 64


@pytest.mark.parametrize("fields", [{"judged": OTHER}, {"stated": OTHER}, {"judged": OTHER, "stated": OTHER}])
def test_invariant_a_what_is_about_another_artifact_is_no_judgement_of_this_one(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no judgement of"):
        a_verdict(a_plan(), **fields)


@pytest.mark.parametrize("verdict", Verdict)
def test_every_judgement_is_a_statement_whatever_it_says(verdict: Verdict) -> None:
    found = a_verdict(a_plan(), verdict=verdict)
    held = trust.open_statement(found["data"]["statement"], TRUSTED)
    assert (held.statement.digest, held.statement.predicate.verdict) == (DIGEST, verdict)


def test_it_says_what_was_judged_and_by_whom() -> None:
    found = a_verdict(a_plan())
    assert found["immutable"] is True
    assert found["metadata"]["name"] == f"slipway-verdict-{'a' * 32}-{UID[:8]}-1"
    own = found["metadata"]["labels"]
    assert (own[names.DIGEST], own[names.SIGNED_BY], own[names.JUDGED_FOR]) == ("a" * 63, KEY.public.id, "chat")
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
    assert names.ENDPOINT not in metadata["labels"], "no child of an endpoint"
