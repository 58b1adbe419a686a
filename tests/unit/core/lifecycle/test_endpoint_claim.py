"""Which run an endpoint was told to serve: written with a promotion, and read by every later run."""

import pytest
from tests.unit.core.endpoint_world import an_endpoint, digest
from tests.unit.core.runs import DIGEST, a_plan, a_run

from slipway_core.lifecycle.decision import Promote
from slipway_core.lifecycle.endpoint_claim import Claim, annotations_of, claim_on, is_later

RUN = a_run()
UID, CREATED = RUN.metadata.uid, RUN.metadata.creation_timestamp


def told(retry: str | None = None, run: str | None = "demo"):
    """The endpoint as a promotion of that run leaves it."""
    endpoint = an_endpoint("a")
    notes = annotations_of(Promote("chat", "file:///a", digest("a"), "demo", retry), RUN, a_plan(RUN))
    model = endpoint.spec.model.model_copy(update={"run": run})
    metadata = endpoint.metadata.model_copy(update={"annotations": notes})
    return endpoint.model_copy(update={"metadata": metadata, "spec": endpoint.spec.model_copy(update={"model": model})})


def test_what_a_promotion_writes_is_what_a_later_run_reads():
    assert claim_on(told()) == Claim("demo", digest("a"), CREATED, UID)
    assert claim_on(told(run=None)) == Claim("", digest("a"), CREATED, UID), "a model that was set by hand"
    assert claim_on(an_endpoint("a")) == Claim("", digest("a")), "and an endpoint that was made by hand"
    assert claim_on(an_endpoint(None)) is None


def test_a_retry_is_told_where_there_is_one():
    assert "slipway.dev/retry" not in told().metadata.annotations
    assert told("again").metadata.annotations["slipway.dev/retry"] == "again"


@pytest.mark.parametrize(
    ("claim", "later"),
    [
        (Claim("other", DIGEST, "2026-01-01T00:00:01Z", ""), True),
        (Claim("other", DIGEST, "2025-12-31T23:59:59Z", "f"), False),
        (Claim("other", DIGEST, CREATED, "f"), True),
        (Claim("other", DIGEST, CREATED, UID), False),
        (Claim("other", DIGEST, CREATED, "0"), False),
        (Claim("demo", DIGEST, "2027-01-01T00:00:00Z", "f"), False),
    ],
    ids=["later", "earlier", "of that second, by uid", "the same", "of that second, before", "its own"],
)
def test_the_run_that_was_created_later_has_the_endpoint(claim: Claim, later: bool):
    assert is_later(claim, RUN, UID) is later
