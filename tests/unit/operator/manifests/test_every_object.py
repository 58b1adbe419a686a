"""What holds of everything that the operator makes."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.manifests import samples
from tests.unit.operator.manifests.restricted import violations

from slipway_operator import names

LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
POD_SUFFIX = len("-1023-abcde")

_ENDS = st.sampled_from(string.ascii_lowercase + string.digits)
_MIDDLE = st.text(string.ascii_lowercase + string.digits + "-", max_size=61)
resource_names = _ENDS | st.builds(lambda first, middle, last: first + middle + last, _ENDS, _MIDDLE, _ENDS)
longest = st.just("7" + "x" * 62) | st.just("a" + "-" * 61 + "z")


def test_invariant_h_every_pod_is_restricted_and_holds_no_token() -> None:
    pods = samples.pod_specs(samples.everything())
    assert len(pods) == 8
    assert [violations(pod) for pod in pods] == [[]] * len(pods)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda pod: pod.update(hostNetwork=True),
        lambda pod: pod.pop("automountServiceAccountToken"),
        lambda pod: pod["securityContext"].pop("seccompProfile"),
        lambda pod: pod["securityContext"].update(runAsUser=0),
        lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"),
        lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
        lambda pod: pod["containers"][0].pop("securityContext"),
    ],
)
def test_the_check_itself_sees_a_pod_that_is_not(break_it: Any) -> None:
    pod = samples.pod_specs(samples.everything())[0]
    break_it(pod)
    assert violations(pod)


@given(
    run=resource_names | longest,
    stage=(resource_names | longest).filter(lambda name: name not in ("prepare", "export", "evaluate", "publish")),
    endpoint=resource_names | longest,
    attempt=st.integers(1, 10_000),
)
def test_no_name_is_ever_too_long_or_malformed(run: str, stage: str, endpoint: str, attempt: int) -> None:
    for manifest in samples.everything(run=run, stage=stage, endpoint=endpoint, attempt=attempt):
        _check_names(manifest)


def _check_names(manifest: dict[str, Any]) -> None:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    limit = 253
    if kind == "Service":
        limit = 63
        assert SERVICE_NAME.fullmatch(name), name
    elif kind in ("Job", "Deployment"):
        limit = 63 - POD_SUFFIX
        assert DNS_LABEL.fullmatch(name), name
    assert len(name) <= limit
    assert SUBDOMAIN.fullmatch(name), name
    for labels in _labels(manifest):
        for value in labels.values():
            assert len(value) <= 63
            assert LABEL.fullmatch(value), value


def _labels(manifest: dict[str, Any]) -> list[dict[str, str]]:
    spec = manifest.get("spec", {})
    found = [manifest["metadata"].get("labels", {})]
    if "template" in spec:
        found.append(spec["template"]["metadata"]["labels"])
    if isinstance(spec.get("selector"), dict):
        found.append(spec["selector"].get("matchLabels", spec["selector"]) if manifest["kind"] != "Pod" else {})
    return found


@given(one=resource_names | longest, other=resource_names | longest)
def test_two_names_stay_two(one: str, other: str) -> None:
    if one != other:
        assert names.job(one, "learn", 1) != names.job(other, "learn", 1)
        assert names.service(one) != names.service(other)
        assert names.version(one, 1) != names.version(other, 1)


@pytest.mark.parametrize("end", ["", "-long" * 20])
def test_a_dash_in_a_name_does_not_make_two_jobs_one(end: str) -> None:
    assert names.job("demo-chat", f"sft{end}", 1) != names.job("demo", f"chat-sft{end}", 1)
    assert names.job("demo", "sft", 1) == "slipway-run-demo-sft-1"


@pytest.mark.parametrize("name", ["s-7b", "s", "chat"])
def test_a_service_is_called_like_its_endpoint_where_it_may_be(name: str) -> None:
    assert names.service(name) == name
    assert names.service("7b") not in ("7b", "s-7b")


def test_everything_is_found_by_the_label_that_the_operator_watches() -> None:
    for manifest in samples.everything():
        if manifest["kind"] == "ModelEndpoint":
            continue  # It is one of our two kinds, which are watched whole.
        assert manifest["metadata"]["labels"][names.MANAGED_BY] == names.MANAGED_BY_VALUE


def test_what_outlives_a_run_has_no_owner() -> None:
    free = {m["kind"] for m in samples.everything() if "ownerReferences" not in m["metadata"]}
    assert free == {"ConfigMap", "PersistentVolumeClaim", "ModelEndpoint"}


def test_owners_control_and_block_nothing() -> None:
    for manifest in samples.everything():
        for owner in manifest["metadata"].get("ownerReferences", []):
            assert (owner["controller"], owner["blockOwnerDeletion"]) == (True, False)


def test_every_mount_has_its_volume() -> None:
    for pod in samples.pod_specs(samples.everything()):
        volumes = [volume["name"] for volume in pod["volumes"]]
        assert len(set(volumes)) == len(volumes)
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(set(paths)) == len(paths)
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            assert {"/tmp", "/dev/shm"} <= set(paths)
