"""The Deployment of a version: frozen, safe to end, open to whom it says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.manifests.samples import DIGEST, a_deployment, a_version, an_endpoint, variables

from slipway_core.resources.status import ParityStatus
from slipway_operator import names
from slipway_operator.manifests.endpoint import access
from slipway_operator.manifests.endpoint.deployment import as_frozen, scaled
from slipway_operator.manifests.errors import ManifestError


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def server(deployment: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(deployment)["containers"]
    return found


def frozen(deployment: dict[str, Any]) -> str:
    return deployment["metadata"]["annotations"][names.FROZEN]


def option(deployment: dict[str, Any], name: str) -> str | None:
    arguments = server(deployment)["args"]
    return arguments[arguments.index(name) + 1] if name in arguments else None


def test_invariant_e_the_same_snapshot_gives_the_same_deployment() -> None:
    starts = a_deployment(an_endpoint(), a_version(state="Starting", message="it loads"))
    lives = a_deployment(an_endpoint(), a_version(state="Live"))
    assert starts == lives


RECORD = ParityStatus(uri="pvc://models/run-0b5e1a52/evaluation/2/parity.json", digest="sha256:" + "e" * 64)


def record_mount(deployment: dict[str, Any]) -> dict[str, Any] | None:
    mounts = server(deployment)["volumeMounts"]
    return next((mount for mount in mounts if mount["mountPath"] == "/parity/parity.json"), None)


def test_a_server_is_given_the_record_alone_of_all_that_an_evaluation_left() -> None:
    made = a_deployment(an_endpoint(), a_version(uri="pvc://models/run-0b5e1a52/artifact", parity=RECORD))
    assert (option(made, "--parity"), option(made, "--parity-digest")) == ("/parity/parity.json", RECORD.digest)
    mount = record_mount(made)
    assert mount is not None
    assert (mount["subPath"], mount["readOnly"]) == ("run-0b5e1a52/evaluation/2/parity.json", True)
    claims = [volume for volume in pod(made)["volumes"] if "persistentVolumeClaim" in volume]
    assert [claim["name"] for claim in claims] == [mount["name"]], "the claim of the model is mounted once"


def test_a_model_that_is_fetched_has_the_record_of_the_claim_in_which_it_was_judged() -> None:
    made = a_deployment(an_endpoint(), a_version(uri="s3://models/chat", parity=RECORD))
    mount = record_mount(made)
    assert mount is not None
    volume = next(volume for volume in pod(made)["volumes"] if volume["name"] == mount["name"])
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_a_version_without_a_record_is_given_none() -> None:
    made = a_deployment(an_endpoint(), a_version())
    assert option(made, "--parity") is None
    assert record_mount(made) is None


@pytest.mark.parametrize("in_place", [{"replicas": 7}, {"autoscaling": {"maxReplicas": 3}}, {"port": 81}])
def test_invariant_e_what_applies_in_place_starts_no_pod_again(in_place: dict[str, Any]) -> None:
    assert a_deployment(an_endpoint(**in_place))["spec"]["template"] == a_deployment(an_endpoint())["spec"]["template"]


def test_invariant_e_a_version_can_be_made_again_from_its_deployment() -> None:
    version = a_version(uri="s3://models/chat", credentials="a")
    old = an_endpoint(limits={"maxQueue": 3}, engine={"dtype": "FP32"}, model={"credentials": "a"})
    made = a_deployment(old, version)
    edited = an_endpoint(limits={"maxQueue": 4}, model={"credentials": "b"})
    again = as_frozen(edited, version, frozen(made))
    assert again is not None
    assert a_deployment(again, version) == made


@pytest.mark.parametrize(
    "note", ["", "null", "[]", "{}", '{"revision": "another"}', '{"revision": "c0ffee"}', "0", '"c0ffee"']
)
def test_a_deployment_of_something_else_gives_no_settings(note: str) -> None:
    assert as_frozen(an_endpoint(), a_version(), note) is None


def test_only_replicas_change_when_it_is_scaled() -> None:
    made = a_deployment(an_endpoint())
    there = {
        **made,
        "metadata": {
            **made["metadata"],
            "uid": "u",
            "resourceVersion": "9",
            "managedFields": [],
            "annotations": {**made["metadata"]["annotations"], "deployment.kubernetes.io/revision": "1"},
        },
        "status": {"replicas": 1},
    }
    assert scaled(there, 5) == {**made, "spec": {**made["spec"], "replicas": 5}}


def test_an_autoscalers_replicas_are_not_touched() -> None:
    assert "replicas" not in a_deployment(an_endpoint(), replicas=None)["spec"]


def test_invariant_b_no_answer_is_lost_when_a_pod_ends() -> None:
    made = a_deployment(an_endpoint(rollout={"drain": "2m"}), serving={"linger": "7s"})
    assert (option(made, "--linger-seconds"), option(made, "--drain-seconds")) == ("7", "120")
    assert pod(made)["terminationGracePeriodSeconds"] == 7 + 120 + 15
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_busy_server_is_not_killed_and_a_hung_one_is() -> None:
    probe = server(a_deployment(an_endpoint()))["livenessProbe"]
    assert probe["httpGet"]["path"] == "/livez"
    assert 60 <= probe["periodSeconds"] * probe["failureThreshold"] <= 300


@pytest.mark.parametrize(("timeout", "seconds"), [("15m", 900), ("5s", 5), ("0s", 1)])
def test_a_server_has_its_start_timeout_to_become_ready(timeout: str, seconds: int) -> None:
    made = a_deployment(an_endpoint(rollout={"startTimeout": timeout}))
    probe = server(made)["startupProbe"]
    assert seconds <= probe["periodSeconds"] * probe["failureThreshold"] < seconds + probe["periodSeconds"]
    assert made["spec"]["progressDeadlineSeconds"] == seconds


@pytest.mark.parametrize(
    ("who", "anonymous", "condition"),
    [({}, True, True), ({"anonymous": True}, True, False), ({"keysSecret": "keys"}, False, False)],
)
def test_who_may_ask(who: dict[str, Any], anonymous: bool, condition: bool) -> None:
    endpoint = an_endpoint(access=who)
    made = a_deployment(endpoint)
    assert ("--allow-anonymous" in server(made)["args"]) is anonymous
    assert (option(made, "--api-keys-file") is None) is anonymous
    assert (access.open_access(endpoint.spec) is not None) is condition


def test_keys_are_mounted_as_a_folder_so_that_a_new_one_arrives() -> None:
    made = a_deployment(an_endpoint(access={"keysSecret": "keys"}))
    assert option(made, "--api-keys-file") == "/etc/slipway/keys/keys"
    (mount,) = [m for m in server(made)["volumeMounts"] if m["name"] == "keys"]
    assert (mount["mountPath"], "subPath" in mount) == ("/etc/slipway/keys", False)


@pytest.mark.parametrize("who", [{"keysFile": "/keys"}, {"anonymous": False}])
def test_access_that_a_cluster_cannot_have_is_refused(who: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="keysSecret"):
        a_deployment(an_endpoint(access=who))


def test_a_model_on_a_claim_is_mounted_alone_and_read_only() -> None:
    made = a_deployment(an_endpoint(), a_version(uri="pvc://models/chat/v1/"))
    assert pod(made)["volumes"][0]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert server(made)["volumeMounts"][0] == {
        "name": "model",
        "mountPath": "/model",
        "readOnly": True,
        "subPath": "chat/v1",
    }
    assert "initContainers" not in pod(made)


@pytest.mark.parametrize(
    ("uri", "token", "stores"),
    [("hf://org/name", True, []), ("s3://models/chat", False, ["secret"]), ("gs://models/chat", False, ["secret"])],
)
def test_a_model_elsewhere_is_fetched_and_the_server_holds_no_secret(uri: str, token: bool, stores: list[str]) -> None:
    made = a_deployment(an_endpoint(), a_version(uri=uri, credentials="secret"))
    (fetch,) = pod(made)["initContainers"]
    assert fetch["command"] == ["slipway-fetch"]
    assert fetch["args"] == ["--uri", uri, "--digest", DIGEST, "--to", "/model"]
    assert ("HF_TOKEN" in variables(fetch)) is token
    assert [source["secretRef"]["name"] for source in fetch["envFrom"]] == stores
    assert "envFrom" not in server(made)
    assert server(made)["volumeMounts"][0]["readOnly"] is True


def test_a_quota_on_cpu_and_memory_takes_a_model_that_is_fetched() -> None:
    resources = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi", "example.com/nic": "1"}}
    made = a_deployment(an_endpoint(resources=resources), a_version(uri="s3://models/chat"))
    (fetch,) = pod(made)["initContainers"]
    assert fetch["resources"] == {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}}


@pytest.mark.parametrize("uri", ["file:///models/chat", "run://demo", "package://tang"])
def test_a_model_that_a_cluster_cannot_have_is_refused(uri: str) -> None:
    with pytest.raises(ManifestError, match="pvc://CLAIM/PATH"):
        a_deployment(an_endpoint(), a_version(uri=uri))


def test_what_is_loaded_is_verified() -> None:
    assert option(a_deployment(an_endpoint()), "--digest") == DIGEST


def test_a_replica_has_an_accelerator_for_each_part_of_the_model() -> None:
    serving = {"accelerator": "nvidia.com/gpu", "device": "cuda"}
    made = a_deployment(an_endpoint(engine={"tensorParallel": 4}), serving=serving)
    assert server(made)["resources"]["limits"] == {"nvidia.com/gpu": "4"}


def test_an_endpoints_own_resources_replace_the_charts() -> None:
    own = {"requests": {"memory": "9Gi"}, "limits": {"cpu": 2}}
    assert server(a_deployment(an_endpoint(resources=own)))["resources"] == {
        "requests": {"memory": "9Gi"},
        "limits": {"cpu": "2"},
    }


def test_it_goes_with_its_endpoint() -> None:
    (owner,) = a_deployment(an_endpoint())["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("ModelEndpoint", "chat")
