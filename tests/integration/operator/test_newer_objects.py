"""Objects of a newer version under this operator: CRDs that know more than it does, as after its rollback."""

import copy
import json

import pytest
from tests.integration.api_client import eventually
from tests.integration.control_plane import ControlPlane
from tests.integration.operator.runs_on_cluster import STEPS

from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN, Kind

DEFINITIONS = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)


@pytest.fixture(scope="module", autouse=True)
def newer_definitions(control_plane: ControlPlane):
    """Both kinds have one field more in their spec and in their status; afterwards they are what they were."""
    api = control_plane.api
    names = [f"{kind.plural}.slipway.dev" for kind in (TRAINING_RUN, MODEL_ENDPOINT)]
    before = {name: api.get(DEFINITIONS, None, name) for name in names}
    for name, definition in before.items():
        newer = copy.deepcopy(definition)
        whole = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in ("spec", "status"):
            whole[part]["properties"]["tomorrow"] = {"type": "string"}
        api.merge(DEFINITIONS, None, name, {"spec": newer["spec"]})
    yield
    for name, definition in before.items():
        api.merge(DEFINITIONS, None, name, {"spec": definition["spec"]})


def set_status(control_plane: ControlPlane, kind: Kind, namespace: str, name: str, **fields: str) -> None:
    path = f"{kind.path(namespace, name)}/status"
    body = json.dumps({"status": fields})

    def kept() -> bool:
        # An API server takes a moment to serve a changed definition.
        control_plane.kubectl(
            "patch", kind.plural, name, "-n", namespace, "--subresource", "status", "--type", "merge", "-p", body
        )
        found = control_plane.api.get(kind, namespace, name) or {}
        return fields.items() <= found["status"].items()

    eventually(kept, f"{path} keeps {fields}")


def test_a_live_endpoint_with_a_newer_status_is_neither_lost_nor_pruned(runs, control_plane):
    run = runs.apply("first")
    run.reaches("Serving")
    endpoint = runs.endpoint()
    set_status(control_plane, MODEL_ENDPOINT, runs.namespace, "chat", tomorrow="sunny")
    set_status(control_plane, TRAINING_RUN, runs.namespace, "first", tomorrow="sunny")
    runs.apply("second").reaches("Serving")
    assert (endpoint.live["run"], endpoint.routed) == ("second", "2")
    run.reaches("Completed")
    assert (endpoint.status["tomorrow"], run.status["tomorrow"]) == ("sunny", "sunny")
    assert "was created later" in run.condition("Live")["message"]


def test_an_endpoint_that_cannot_be_read_serves_on_and_its_run_does_not_say_that_it_was_deleted(runs):
    run = runs.apply("first")
    run.reaches("Serving")
    endpoint = runs.endpoint()
    endpoint.edit(tomorrow="sunny", replicas=3)
    message = endpoint.shows("Unreadable", "NotUnderstood")
    assert message.startswith("ModelEndpoint chat: spec.tomorrow is not known to this operator")
    run.shows("Live", "EndpointUnreadable", "Unknown")
    assert (run.phase, endpoint.status["phase"], endpoint.routed, endpoint.versions) == (
        "Serving",
        "Serving",
        "1",
        ["1"],
    )
    endpoint.edit(tomorrow=None, replicas=None)
    run.shows("Live", "Serving")
    eventually(lambda: "Unreadable" not in {one["type"] for one in endpoint.status["conditions"]}, "it can be read")


def test_a_run_that_cannot_be_read_is_left_as_it_is_until_it_can(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    pod = run.pod("learn").runs()
    run.reaches("Training")
    run.api.merge(TRAINING_RUN, runs.namespace, run.name, {"spec": {"tomorrow": "sunny"}})
    run.shows("Unreadable", "NotUnderstood")
    pod.ends(0, pod.result(progress={"step": 100, "total": 100}))
    assert run.phase == "Training"
    assert sorted(one["metadata"]["labels"]["slipway.dev/step"] for one in run.jobs()) == ["learn", "prepare"]
    run.api.merge(TRAINING_RUN, runs.namespace, run.name, {"spec": {"tomorrow": None}})
    run.reaches("Completed")
    assert [(one["name"], one["attempt"]) for one in run.status["stages"]] == [(step, 1) for step in STEPS]
