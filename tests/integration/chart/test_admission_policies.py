"""What the chart's policies forbid to whoever has the role `edit` in a namespace, and what they let everybody do.

They stand on the control plane of all integration tests, so that everything that the operator, the Job controller and
the others do in those is done under them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.api_client import ApiClient, Manifest, Refused, eventually
from tests.integration.chart.role_binding import bound
from tests.integration.control_plane import ControlPlane, helm_template
from tests.integration.fresh_namespace import fresh_namespace
from tests.unit.operator.manifests import samples

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.pods.helper_pod import HelperPod
from slipway_operator import names
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, MODEL_ENDPOINT, NAMESPACE, POD, SERVICE, Kind

ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
OURS = {names.MANAGED_BY: names.MANAGED_BY_VALUE}
DEBUGGER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "debugger"},
    "rules": [{"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]}],
}
WRITER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "writer"},
    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch", "update"]}],
}
RUN = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "urgent"},
    "spec": {
        "model": {"from": "hf://org/name"},
        "stages": [{"name": "sft", "objective": "Chat", "steps": 1, "data": {"train": [{"uri": "package://tang"}]}}],
    },
}


def may(client: ApiClient, kind: Kind, namespace: str) -> bool:
    try:
        client.list(kind, namespace)
    except Refused:
        return False
    return True


@pytest.fixture(scope="module")
def team(control_plane: ControlPlane) -> Iterator[str]:
    with fresh_namespace(control_plane.api, "policies") as name:
        for user, role in (("mallory", "edit"), ("restorer", "edit"), ("restorer", "slipway-restore")):
            control_plane.api.create(bound(user, role), name)
        eventually(lambda: control_plane.api.get(ACCOUNT, name, "default"), "a pod has an account")
        yield name


@pytest.fixture(scope="module")
def mallory(control_plane: ControlPlane, team: str) -> Iterator[ApiClient]:
    """Somebody with the role `edit`, once the API server has taken up the policies."""
    client = ApiClient(control_plane.kubeconfig, acts_as="mallory")
    eventually(lambda: refusal(client, a_pod("theirs", **OURS), team), "the policies hold")
    yield client
    client.close()


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane) -> Iterator[ApiClient]:
    client = ApiClient(control_plane.operator_kubeconfig)
    yield client
    client.close()


def a_pod(name: str, **labels: str) -> Manifest:
    spec = {"containers": [{"name": "c", "image": "busybox"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def makers_of_pods() -> dict[str, Manifest]:
    """One of each object out of which Kubernetes' controllers, who may, make pods with the label."""
    template = {"metadata": {"labels": OURS}, "spec": {**a_pod("x")["spec"], "restartPolicy": "Always"}}
    selected = {"selector": {"matchLabels": OURS}, "template": template}
    once = {"template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}}
    made = {
        ("apps/v1", "Deployment"): selected,
        ("apps/v1", "ReplicaSet"): selected,
        ("apps/v1", "DaemonSet"): selected,
        ("apps/v1", "StatefulSet"): {**selected, "serviceName": "x"},
        ("v1", "ReplicationController"): {"selector": OURS, "template": template},
        ("batch/v1", "Job"): once,
        ("batch/v1", "CronJob"): {"schedule": "@daily", "jobTemplate": {"spec": once}},
    }
    return {
        kind: {"apiVersion": version, "kind": kind, "metadata": {"name": "theirs"}, "spec": spec}
        for (version, kind), spec in made.items()
    }


def in_team(manifest: Manifest, namespace: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def refusal(client: ApiClient, manifest: Manifest, namespace: str) -> str:
    """What the API server says to somebody who creates it; empty where it takes it."""
    try:
        client.create(in_team(manifest, namespace), namespace, dry_run=True)
    except Refused as refused:
        return f"{refused.code}: {refused}"
    return ""


def verdict() -> Manifest:
    return samples.a_verdict(samples.a_plan())


FORGED = {
    "a verdict": verdict(),
    "a verdict without a label": {**verdict(), "metadata": {"name": verdict()["metadata"]["name"]}},
    "the record of a plan": next(
        one for one in samples.everything() if one["metadata"]["name"].startswith("demo-plan")
    ),
    "a Job": samples.a_job(samples.a_plan()),
    "a pod": a_pod("theirs", **OURS),
    "a Service": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat", "labels": names.endpoint_labels("chat")},
        "spec": {"ports": [{"port": 80}]},
    },
    **{f"a {kind} with the label in its template": manifest for kind, manifest in makers_of_pods().items()},
}


@pytest.mark.parametrize("what", FORGED)
def test_A_whoever_may_edit_forges_nothing(mallory: ApiClient, team: str, what: str) -> None:
    said = refusal(mallory, FORGED[what], team)
    assert "ValidatingAdmissionPolicy" in said
    assert "Slipway's operator" in said


@pytest.mark.parametrize("what", FORGED)
def test_the_operator_makes_all_of_it(operator: ApiClient, team: str, what: str) -> None:
    """By its own rights, which are fewer: what it may not make at all no policy has to refuse."""
    said = refusal(operator, FORGED[what], team)
    assert "ValidatingAdmissionPolicy" not in said


def test_whoever_puts_back_a_backup_makes_records(control_plane: ControlPlane, team: str) -> None:
    restorer = ApiClient(control_plane.kubeconfig, acts_as="restorer")
    assert refusal(restorer, FORGED["a verdict"], team) == ""
    assert refusal(restorer, FORGED["the record of a plan"], team) == ""
    restorer.close()


def test_what_has_no_label_of_ours_is_nobodys_business(
    mallory: ApiClient, control_plane: ControlPlane, team: str
) -> None:
    reader = HelperPod("read", "slipway-workspace", writes=None, lifetime=60)
    settings = ClientSettings("slipway-train:dev")
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {}}
    for manifest in (a_pod("mine"), a_pod("mine", **{names.MANAGED_BY: "helm"}), plain, reader.manifest(settings)):
        assert refusal(mallory, manifest, team) == ""


@pytest.fixture
def record(operator: ApiClient, team: str) -> str:
    name = verdict()["metadata"]["name"]
    if operator.get(CONFIG_MAP, team, name) is None:
        operator.create(in_team(verdict(), team), team)
    return name


def test_A_whoever_may_edit_changes_and_deletes_no_record(
    mallory: ApiClient, operator: ApiClient, team: str, record: str
) -> None:
    unlabelled = {"metadata": {"labels": {names.MANAGED_BY: None, names.ROLE: None}}}
    with pytest.raises(Refused, match="record of a plan or a verdict"):
        mallory.merge(CONFIG_MAP, team, record, unlabelled)
    with pytest.raises(Refused, match="record of a plan or a verdict"):
        mallory.delete(CONFIG_MAP, team, record)
    with pytest.raises(Refused, match="record of a plan or a verdict"):
        mallory.delete_all(CONFIG_MAP, team)
    operator.delete(CONFIG_MAP, team, record)


def test_A_nobody_takes_the_address_of_an_endpoint_by_deleting_its_service(
    mallory: ApiClient, operator: ApiClient, team: str
) -> None:
    """Who makes the next Service of that name is who answers there, whatever the endpoint asks of a model."""
    operator.create(in_team(FORGED["a Service"], team), team)
    with pytest.raises(Refused, match="the address of an endpoint"):
        mallory.delete(SERVICE, team, "chat")
    with pytest.raises(Refused, match="the address of an endpoint"):
        mallory.delete_all(SERVICE, team)
    own = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}}
    mallory.create(in_team(own, team), team)
    mallory.delete(SERVICE, team, "own")
    operator.delete(SERVICE, team, "chat")


def test_whoever_may_delete_runs_may_have_what_one_left_go_at_once_and_changes_nothing_else(
    mallory: ApiClient, operator: ApiClient, control_plane: ControlPlane, team: str
) -> None:
    plan = in_team(FORGED["the record of a plan"], team)
    name = operator.create(plan, team)["metadata"]["name"]
    at_once = {"slipway.dev/remove": "now"}
    mallory.merge(CONFIG_MAP, team, name, {"metadata": {"annotations": at_once}})
    assert (operator.get(CONFIG_MAP, team, name) or {})["metadata"]["annotations"] == at_once
    for change in (
        {"annotations": {names.ORPHANED_AT: "2020-01-01T00:00:00Z"}},
        {"annotations": {"slipway.dev/remove": None, names.FOLDER: "claim/folder"}},
        {"labels": {names.RUN_UID: "another"}},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]},
    ):
        with pytest.raises(Refused, match="record of a plan or a verdict"):
            mallory.merge(CONFIG_MAP, team, name, {"metadata": change})
    api = control_plane.api
    api.create(bound("viewer", "view"), team)
    api.create(WRITER, team)
    role = {**bound("", "writer")["roleRef"], "kind": "Role"}
    api.create({**bound("viewer", "writer"), "roleRef": role}, team)
    viewer = ApiClient(control_plane.kubeconfig, acts_as="viewer")
    eventually(lambda: may(viewer, CONFIG_MAP, team), "viewer may write ConfigMaps")
    with pytest.raises(Refused, match="record of a plan or a verdict"):
        viewer.merge(CONFIG_MAP, team, name, {"metadata": {"annotations": {"slipway.dev/remove": None}}})
    viewer.close()
    operator.delete(CONFIG_MAP, team, name)


def test_the_controllers_of_kubernetes_work_on_what_is_ours(
    mallory: ApiClient, operator: ApiClient, control_plane: ControlPlane
) -> None:
    """The Job controller makes pods and takes its finalizers off, the garbage collector and the namespace's controller
    delete, records included, and a user deletes a Job."""
    with fresh_namespace(control_plane.api, "policies-controllers") as namespace:
        job = samples.a_job(samples.a_plan())
        del job["metadata"]["ownerReferences"]
        job["spec"]["template"]["spec"]["volumes"] = []
        job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = []
        operator.create(in_team(job, namespace), namespace)
        operator.create(in_team(verdict(), namespace), namespace)
        api = control_plane.api
        asking = endpoint()
        asking["spec"]["promotion"] = {"mode": "Approval"}
        api.create(asking, namespace)
        pod = eventually(lambda: next(iter(api.list(POD, namespace, f"{names.ROLE}=step")), None), "a pod of the Job")
        assert pod["metadata"]["name"].startswith("slipway-run-demo-learn-1-0-")
        api.create(bound("mallory", "edit"), namespace)
        eventually(lambda: may(mallory, POD, namespace), "mallory may edit")
        with pytest.raises(Refused, match="nobody else may write that"):
            mallory.merge(POD, namespace, pod["metadata"]["name"], {"metadata": {"labels": {names.ATTEMPT: "2"}}})
        index = {"batch.kubernetes.io/job-completion-index": "7"}
        mallory.merge(
            POD, namespace, pod["metadata"]["name"], {"metadata": {"annotations": {"a.plugin/ip": "10.1.2.3"}}}
        )
        spec = {"containers": [{**pod["spec"]["containers"][0], "image": "evil:1"}]}
        for change in ({"metadata": {"annotations": index}}, {"spec": spec}, {"metadata": {"ownerReferences": None}}):
            with pytest.raises(Refused, match="nobody else may write that"):
                mallory.merge(POD, namespace, pod["metadata"]["name"], change)
        with pytest.raises(Refused, match="nobody else may write that"):
            mallory.merge(JOB, namespace, job["metadata"]["name"], {"spec": {"suspend": True}})
        for how in ("exec?command=true", "attach"):
            with pytest.raises(Refused, match="nobody executes anything"):
                mallory.post(f"{POD.path(namespace, pod['metadata']['name'])}/{how}", {})
        # `edit` alone has no right to that.
        api.create(DEBUGGER, namespace)
        api.create(
            {**bound("mallory", "debugger"), "roleRef": {**bound("", "debugger")["roleRef"], "kind": "Role"}}, namespace
        )
        debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}}
        eventually(lambda: refused_by_a_policy(mallory, pod, debug), "no container beside ours")
        mallory.create(a_pod("slipway-read-x"), namespace)
        assert not refused_by_a_policy(mallory, api.get(POD, namespace, "slipway-read-x") or {}, debug)
        with pytest.raises(Refused) as refused:
            mallory.post(f"{POD.path(namespace, 'slipway-read-x')}/exec?command=true", {})
        assert "ValidatingAdmissionPolicy" not in str(refused.value), "its kubelet is not there, and nothing else"
        mallory.delete(JOB, namespace, job["metadata"]["name"])
        eventually(lambda: not api.list(POD, namespace, f"{names.ROLE}=step"), "the pod is gone")
    eventually(lambda: control_plane.api.get(NAMESPACE, None, namespace) is None, "the namespace is gone", 60)


def refused_by_a_policy(client: ApiClient, pod: Manifest, debug: Manifest) -> bool:
    """Whether that is why somebody may not put a container beside those of a pod."""
    metadata = pod["metadata"]
    try:
        client.merge(POD, metadata["namespace"], metadata["name"], debug, subresource="ephemeralcontainers")
    except Refused as refused:
        return "nobody executes anything" in str(refused)
    return False


@pytest.fixture(scope="module")
def listed(control_plane: ControlPlane, team: str) -> None:
    """The same chart again, with lists, for one namespace."""
    values: dict[str, Any] = {
        "fullnameOverride": "listed",
        "watchNamespaces": [team],
        "admissionPolicies": {"acceptUnjudged": ["ops"], "priorityClasses": ["batch"]},
    }
    for manifest in helm_template("admission-policies.yaml", values=values):
        control_plane.api.apply(manifest)


def endpoint(**model: Any) -> Manifest:
    served = {"uri": "pvc://models/a", "digest": samples.DIGEST, **model}
    head = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "chat"}}
    return {**head, "spec": {"model": served}}


def promotes(priority: str) -> dict[str, Any]:
    gates = {"data": [{"uri": "package://tang-held-out"}], "gates": [{"metric": "perplexity", "max": 20}]}
    return {"evaluation": gates, "serving": {"endpoint": "chat", "template": {"priorityClassName": priority}}}


@pytest.mark.usefixtures("listed")
def test_A_unjudged_models_and_priority_classes_are_for_those_on_a_list(
    mallory: ApiClient, control_plane: ControlPlane, team: str
) -> None:
    unjudged = endpoint(acceptUnjudged=True)
    eventually(lambda: "acceptUnjudged of" in refusal(mallory, unjudged, team), "the policy holds")
    assert refusal(mallory, endpoint(), team) == ""
    ops = ApiClient(control_plane.kubeconfig, acts_as="mallory", groups=("ops",))
    assert refusal(ops, unjudged, team) == ""
    ops.create(unjudged, team)
    ops.close()
    change = {"spec": {"replicas": 2}}
    mallory.merge(MODEL_ENDPOINT, team, "chat", change)
    other = {"spec": {"model": {"digest": "sha256:" + "b" * 64}}}
    with pytest.raises(Refused, match="acceptUnjudged"):
        mallory.merge(MODEL_ENDPOINT, team, "chat", other)

    def run(priority: str) -> Manifest:
        made = copy.deepcopy(RUN)
        made["spec"]["compute"] = {"priorityClassName": priority}
        return made

    assert refusal(mallory, RUN, team) == ""
    assert refusal(mallory, run("batch"), team) == ""
    assert "may not have the priority class urgent; allowed: batch" in refusal(mallory, run("urgent"), team)
    for field, spec in (
        ("spec.priorityClassName", {"priorityClassName": "urgent"}),
        ("spec.serving.template.priorityClassName", {**RUN["spec"], **promotes("urgent")}),
    ):
        made = endpoint() if field == "spec.priorityClassName" else copy.deepcopy(RUN)
        made["metadata"]["name"] = "urgent"
        made["spec"] |= spec
        assert f"{field}: runs and endpoints may not have the priority class urgent" in refusal(mallory, made, team)
    mallory.merge(MODEL_ENDPOINT, team, "chat", {"spec": {"priorityClassName": "batch"}})
    control_plane.api.merge(MODEL_ENDPOINT, team, "chat", {"spec": {"priorityClassName": "urgent"}})
    mallory.merge(MODEL_ENDPOINT, team, "chat", {"spec": {"replicas": 3}})


def test_without_a_list_no_run_pushes_the_system_aside(mallory: ApiClient, control_plane: ControlPlane) -> None:
    with fresh_namespace(control_plane.api, "policies-open") as namespace:
        control_plane.api.create(bound("mallory", "edit"), namespace)
        eventually(lambda: may(mallory, POD, namespace), "mallory may edit")
        made = copy.deepcopy(RUN)
        made["spec"]["compute"] = {"priorityClassName": "system-node-critical"}
        assert "system-node-critical" in refusal(mallory, made, namespace)
        made["spec"]["compute"] = {"priorityClassName": "urgent"}
        assert refusal(mallory, made, namespace) == ""
        # The lists of another namespace are none here.
        assert refusal(mallory, endpoint(acceptUnjudged=True), namespace) == ""
