"""What a promotion writes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.manifests.samples import DIGEST, UID, a_plan, a_run, an_endpoint

from slipway_core.lifecycle.annotations import RUN_CREATED_ANNOTATION, RUN_UID_ANNOTATION
from slipway_core.lifecycle.decision import Promote
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_operator.kube.resources import endpoint as read
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.run.model_endpoint import model_endpoint

MODEL = {"uri": "pvc://c/demo/artifact", "digest": DIGEST, "run": "demo"}
TEMPLATE = {"replicas": 2, "port": 80, "engine": {"dtype": "BF16"}}


def promoted(
    existing: ModelEndpoint | None = None, *, retry: str | None = None, template: dict[str, Any] = TEMPLATE
) -> dict[str, Any]:
    serving = {"endpoint": "chat", "template": template}
    promote = Promote("chat", "pvc://c/demo/artifact", DIGEST, "demo", retry)
    return model_endpoint(promote, a_run(serving=serving), a_plan(serving=serving), existing)


def test_a_new_endpoint_has_the_settings_of_the_template() -> None:
    assert promoted()["spec"] == {"model": MODEL, **TEMPLATE}
    assert read(promoted()).spec.replicas == 2


def test_an_endpoint_that_exists_is_told_its_model_and_nothing_else() -> None:
    assert promoted(an_endpoint())["spec"] == {"model": MODEL}


def test_it_says_whose_model_it_is() -> None:
    assert promoted()["metadata"]["annotations"] == {
        RUN_CREATED_ANNOTATION: "2026-01-01T00:00:00Z",
        RUN_UID_ANNOTATION: UID,
    }
    assert promoted(retry="again")["metadata"]["annotations"]["slipway.dev/retry"] == "again"


def test_invariant_b_deleting_the_run_leaves_it() -> None:
    assert "ownerReferences" not in promoted()["metadata"]


@pytest.mark.parametrize(
    ("access", "words"),
    [({"keysFile": "/keys"}, "access.keysFile.*access.keysSecret"), ({"anonymous": False}, "nobody")],
)
def test_access_that_a_cluster_cannot_have_is_refused(access: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        promoted(template={"access": access})
