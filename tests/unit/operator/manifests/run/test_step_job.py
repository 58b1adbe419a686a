"""The Job of an attempt: how many pods, what they are told, what they may read."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.manifests.samples import CLAIM, DIGEST, UID, a_job, a_plan, the_owner, variables

from slipway_core.protocol import exit_codes
from slipway_core.protocol.commands import Baseline, Inputs
from slipway_core.resources.training_run import Export
from slipway_operator import names
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.run import same_work, step_sources
from slipway_operator.manifests.run.rendezvous_service import rendezvous_service
from slipway_operator.manifests.run.step_job import step_job
from slipway_operator.manifests.run.sub_paths import SCRIPT
from slipway_operator.settings import Settings

GPU = "nvidia.com/gpu"
NUMBERS = {"SLIPWAY_NODES": "3", "SLIPWAY_PROCESSES_PER_NODE": "2"}
FOLDER = f"/workspace/demo-{UID[:8]}"


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        ("prepare", ["prepare"]),
        ("learn", ["train", "--stage", "learn"]),
        ("export", ["export"]),
        ("evaluate", ["evaluate", "--baseline", f"pvc://live/artifact@{DIGEST}"]),
    ],
)
def test_the_process_is_told_what_a_local_one_is_told(step: str, arguments: list[str]) -> None:
    baseline = Baseline("pvc://live/artifact", DIGEST) if step == "evaluate" else None
    told = container(a_job(a_plan(), step, attempt=2, baseline=baseline))["args"]
    assert told[:7] == [arguments[0], "--plan", "/etc/slipway/plan/plan.json", "--attempt", "2", "--workspace", FOLDER]
    assert told[7:] == arguments[1:]


def test_E_the_process_is_told_which_plan_it_is_to_find() -> None:
    plan = a_plan()
    assert variables(container(a_job(plan)))["SLIPWAY_PLAN_DIGEST"] == plan.digest


@pytest.mark.parametrize(("step", "pods"), [("prepare", 1), ("learn", 3), ("export", 1), ("evaluate", 1)])
def test_only_training_is_spread_over_nodes(step: str, pods: int) -> None:
    spec = a_job(a_plan(compute={"nodes": 3}), step)["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (pods, pods, "Indexed")


def test_invariant_d_a_job_never_starts_a_pod_again() -> None:
    spec = a_job(a_plan())["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    rules = spec["podFailurePolicy"]["rules"]
    assert {rule["action"] for rule in rules} == {"FailJob"}
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == [
        exit_codes.BAD_INPUT,
        exit_codes.RESTARTABLE,
        exit_codes.LOST_PEERS,
    ]


def test_a_job_is_kept_for_its_logs() -> None:
    assert "ttlSecondsAfterFinished" not in a_job(a_plan())["spec"]


def test_ranks_in_several_pods_find_each_other() -> None:
    plan = a_plan(compute={"nodes": 2, "processesPerNode": 4})
    job, service = a_job(plan, attempt=5), rendezvous_service(plan, the_owner(plan), "learn")
    name = service["metadata"]["name"]
    pod = job["spec"]["template"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["subdomain"] == name
    environment = variables(container(job))
    assert environment["SLIPWAY_MASTER_ADDR"] == f"{job['metadata']['name']}-0.{name}"
    assert environment["SLIPWAY_MASTER_PORT"] == "29400"
    assert environment["SLIPWAY_NODE_RANK"]["fieldRef"]["fieldPath"].endswith("job-completion-index']")


@pytest.mark.parametrize("step", ["prepare", "export", "evaluate"])
def test_a_process_that_is_alone_hears_of_no_other(step: str) -> None:
    job = a_job(a_plan(compute={"nodes": 2}), step)
    assert "subdomain" not in job["spec"]["template"]["spec"]
    assert not {"SLIPWAY_NODE_RANK", "SLIPWAY_MASTER_ADDR"} & set(variables(container(job)))


def test_one_node_starts_its_ranks_itself() -> None:
    assert "SLIPWAY_NODE_RANK" not in variables(container(a_job(a_plan(compute={"processesPerNode": 8}))))


@pytest.mark.parametrize(
    ("step", "accelerators"),
    [("prepare", None), ("learn", "4"), ("export", None), ("evaluate", "1"), ("publish", None)],
)
def test_accelerators_go_where_they_are_used(step: str, accelerators: str | None) -> None:
    plan = a_plan(accelerator=GPU, compute={"nodes": 2, "processesPerNode": 4})
    assert container(a_job(plan, step))["resources"]["limits"].get(GPU) == accelerators


def test_without_an_accelerator_none_is_asked_for() -> None:
    for step in a_plan().steps:
        assert container(a_job(a_plan(), step))["resources"]["limits"] == {}


def test_a_run_that_names_its_resources_has_them_in_every_step_but_its_devices() -> None:
    wanted = {"requests": {"cpu": "500m", "memory": "4Gi", "rdma/ib": 1, GPU: 9}, "limits": {"memory": "5Gi", GPU: 9}}
    plan = a_plan(accelerator=GPU, compute={"resources": wanted})
    assert container(a_job(plan, "learn"))["resources"] == {
        "requests": {"cpu": "500m", "memory": "4Gi", "rdma/ib": "1"},
        "limits": {"memory": "5Gi", GPU: "1"},
    }
    assert container(a_job(plan, "prepare"))["resources"] == {
        "requests": {"cpu": "500m", "memory": "4Gi"},
        "limits": {"memory": "5Gi"},
    }


@pytest.mark.parametrize("step", ["prepare", "learn", "export", "evaluate"])
def test_E_each_attempt_of_a_stage_is_told_how_many_it_is_and_its_job_says_so(step: str) -> None:
    job = a_job(a_plan(compute={"nodes": 3, "processesPerNode": 2}), step)
    told = {name: value for name, value in variables(container(job)).items() if name in NUMBERS}
    trains = step == "learn"
    assert told == (NUMBERS if trains else {})
    assert job["metadata"]["annotations"].get("slipway.dev/processes-per-node") == ("2" if trains else None)


def test_E_what_an_earlier_release_planned_is_told_nothing_that_its_image_does_not_know() -> None:
    job = a_job(a_plan(compute={"nodes": 3, "processesPerNode": 2}, version=1))
    assert NUMBERS.keys().isdisjoint(variables(container(job)))


def test_a_queue_gets_the_job_before_any_pod_starts() -> None:
    job = a_job(a_plan(compute={"queue": "team-a"}))
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "suspend" not in a_job(a_plan())["spec"]


def test_pods_go_where_the_run_says() -> None:
    compute = {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "low",
    }
    for step in a_plan().steps:
        pod = a_job(a_plan(compute=compute), step, images={"pull_secrets": ["registry"]})["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == {"pool": "gpu"}
        assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert pod["priorityClassName"] == "low"
        assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_the_grace_period_is_told_to_the_process() -> None:
    job = a_job(a_plan(), training={"grace": "3m"})
    assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 180
    assert variables(container(job))["SLIPWAY_GRACE_SECONDS"] == "180"


def test_the_result_is_the_termination_message() -> None:
    one = container(a_job(a_plan()))
    assert variables(one)["SLIPWAY_RESULT"] == one["terminationMessagePath"] == "/dev/termination-log"
    assert one["terminationMessagePolicy"] == "File"


def test_progress_is_served_on_the_pods_own_address() -> None:
    one = container(a_job(a_plan()))
    assert variables(one)["SLIPWAY_PROGRESS_PORT"] == "9400"
    assert variables(one)["SLIPWAY_PROGRESS_HOST"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert one["ports"] == [{"name": "progress", "containerPort": 9400}]


PRIVATE = {
    "model": {"from": "hf://org/base", "credentials": "hub"},
    "stages": [
        {"name": "learn", "data": {"train": [{"uri": "s3://bucket/train", "credentials": "store"}]}},
        {"name": "more", "data": {"train": [{"uri": "gs://bucket/more", "credentials": "cloud"}]}},
    ],
}


@pytest.mark.parametrize(
    ("step", "token", "stores"),
    [
        ("prepare", "hub", ["cloud", "store"]),
        ("learn", None, []),
        ("more", None, []),
        ("export", None, []),
        ("evaluate", None, []),
    ],
)
def test_invariant_h_a_step_gets_the_secrets_that_it_needs(step: str, token: str | None, stores: list[str]) -> None:
    one = container(a_job(a_plan(**PRIVATE), step))
    found = variables(one).get("HF_TOKEN")
    assert found == ({"secretKeyRef": {"name": token, "key": "token"}} if token else None)
    assert [source["secretRef"]["name"] for source in one["envFrom"]] == stores


def test_invariant_a_no_secret_chooses_the_variables_of_a_process() -> None:
    """Whoever writes a Secret with `PYTHONPATH` in it would else be the program that judges."""
    live = Baseline("s3://models/live", DIGEST, "live-store")
    for one in (
        container(a_job(a_plan(**PRIVATE), "prepare")),
        container(a_job(a_plan(**PRIVATE), "evaluate", baseline=live)),
    ):
        assert all(source["prefix"] == "SLIPWAY_SECRET_" for source in one["envFrom"])
        keys = {name: value["secretKeyRef"] for name, value in variables(one).items() if "secretKeyRef" in value}
        assert all(name.startswith(("AWS_", "GOOGLE_", "HF_TOKEN")) for name in keys)
        assert all(key["optional"] for name, key in keys.items() if name != "HF_TOKEN"), "no store needs all of them"


@pytest.mark.parametrize(
    ("scheme", "needed"),
    [
        ("s3", {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_SKIP_SIGNATURE"}),
        ("gs", {"GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BASE_URL", "GOOGLE_SKIP_SIGNATURE"}),
    ],
)
def test_a_store_gets_the_variables_of_its_own_scheme(scheme: str, needed: set[str]) -> None:
    one = container(a_job(a_plan(model={"from": f"{scheme}://models/base", "credentials": "store"}), "prepare"))
    found = {name: value["secretKeyRef"] for name, value in variables(one).items() if "secretKeyRef" in value}
    assert needed <= found.keys()
    assert {(key["name"], key["key"]) for key in found.values()} == {("store", name) for name in found}
    assert len({name.partition("_")[0] for name in found}) == 1


PUBLISHED: dict[str, Any] = {
    "tracking": {
        "wandb": {"project": "p", "credentials": "wandb"},
        "mlflow": {"uri": "http://mlflow", "experiment": "e", "credentials": "mlflow"},
        "tensorboard": {},
    },
    "export": {"push": {"uri": "hf://org/name", "credentials": "writer"}},
}
TRACKERS = {
    "WANDB_API_KEY": "wandb",
    "MLFLOW_TRACKING_TOKEN": "mlflow",
    "MLFLOW_TRACKING_USERNAME": "mlflow",
    "MLFLOW_TRACKING_PASSWORD": "mlflow",
}


@pytest.mark.parametrize(
    ("step", "secrets"),
    [
        ("prepare", {}),
        ("learn", TRACKERS),
        ("export", {}),
        ("evaluate", {}),
        ("publish", {**TRACKERS, "HF_TOKEN": "writer"}),
    ],
)
def test_invariant_h_trackers_and_a_push_give_their_keys_to_the_steps_that_speak_to_them(
    step: str, secrets: dict[str, str]
) -> None:
    one = container(a_job(a_plan(**PUBLISHED), step))
    found = {name: value["secretKeyRef"] for name, value in variables(one).items() if "secretKeyRef" in value}
    assert {name: key["name"] for name, key in found.items()} == secrets
    assert one["envFrom"] == []
    assert all(key["optional"] for key in found.values()), "a Secret that is missing keeps no training from starting"
    assert {name: key["key"] for name, key in found.items()} == {
        name: "token" if name == "HF_TOKEN" else name for name in secrets
    }


@pytest.mark.parametrize("step", ["prepare", "learn", "export", "evaluate", "publish"])
def test_invariant_h_prepare_and_evaluate_alone_get_the_key_of_the_judge(step: str) -> None:
    judge = {"url": "https://judge/v1", "model": "m", "criteria": "Be kind.", "credentials": "judge-key"}
    gates = [{"metric": "judge_score", "min": 0.5}]
    asked = {"prompts": [{"uri": "package://tang"}], "gates": gates, "judge": judge}
    one = container(a_job(a_plan(evaluation=asked, tracking={"tensorboard": {}}), step))
    secret = {"name": "judge-key", "key": "JUDGE_API_KEY", "optional": True}
    assert variables(one).get("JUDGE_API_KEY") == (
        {"secretKeyRef": secret} if step in ("prepare", "evaluate") else None
    )
    without = {**asked, "judge": {name: value for name, value in judge.items() if name != "credentials"}}
    assert "JUDGE_API_KEY" not in variables(container(a_job(a_plan(evaluation=without), "evaluate")))


def test_invariant_h_a_publish_step_reads_no_claim_but_the_runs_own_folder() -> None:
    plan = a_plan(model={"from": "pvc://models/base"}, **PUBLISHED)
    job = a_job(plan, "publish")
    claims = [v["persistentVolumeClaim"]["claimName"] for v in job["spec"]["template"]["spec"]["volumes"]
              if "persistentVolumeClaim" in v]  # fmt: skip
    assert claims == [CLAIM]
    assert "initContainers" not in job["spec"]["template"]["spec"]
    assert container(job)["args"][0] == "publish"


def test_a_job_that_was_told_another_verdict_or_tracker_does_the_same_work() -> None:
    plan = a_plan(**PUBLISHED)
    told = step_job(
        plan, the_owner(plan), "publish", 1, settings=Settings(), claim=CLAIM,
        inputs=Inputs(artifact=DIGEST, tracking="{}", judged="{}"),
    )  # fmt: skip
    assert {"SLIPWAY_TRACKING", "SLIPWAY_JUDGED"} <= variables(container(told)).keys()
    assert same_work.difference(told, a_job(plan, "publish")) is None


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_invariant_h_the_keys_of_a_store_are_those_of_prepare_which_keeps_the_model(scheme: str) -> None:
    plan = a_plan(model={"from": f"{scheme}://models/base", "credentials": "store"})
    given = {step: container(a_job(plan, step))["envFrom"] for step in plan.steps}
    assert given.pop("prepare") == [{"prefix": "SLIPWAY_SECRET_", "secretRef": {"name": "store"}}]
    assert not any(given.values())


@pytest.mark.parametrize(
    "model",
    [
        {"from": "pvc://models/base", "credentials": "hub"},
        {"scratch": {"tokenizer": {"from": "package://words"}}, "credentials": "hub"},
    ],
)
def test_a_secret_that_nothing_reads_is_given_to_nobody(model: dict[str, Any]) -> None:
    one = container(a_job(a_plan(model=model), "prepare"))
    assert ("HF_TOKEN" in variables(one), one["envFrom"]) == (False, [])


def test_invariant_h_evaluate_gets_the_secret_of_the_live_version_alone() -> None:
    live = Baseline("s3://models/live", DIGEST, "live-store")
    assert container(a_job(a_plan(**PRIVATE), "evaluate", baseline=live))["envFrom"] == [
        {"prefix": "SLIPWAY_SECRET_", "secretRef": {"name": "live-store"}}
    ]
    on_a_claim = Baseline("pvc://live/artifact", DIGEST, "live-store")
    assert container(a_job(a_plan(**PRIVATE), "evaluate", baseline=on_a_claim))["envFrom"] == []


def test_two_secrets_for_one_variable_are_refused_by_name() -> None:
    data = [{"uri": f"s3://bucket/{name}", "credentials": name} for name in ("one", "two")]
    plan = a_plan(stages=[{"name": "learn", "data": {"train": data}}])
    with pytest.raises(ManifestError, match="one and two are both for s3://"):
        a_job(plan, "prepare")


CLAIMS = {
    "model": {"from": "pvc://slipway-workspace/other-12345678/artifact"},
    "stages": [{"name": "learn", "data": {"train": [{"uri": "pvc://corpus.v2/train"}, {"uri": "pvc://corpus.v2/b"}]}}],
}
BASE = "/claims/slipway-workspace/other-12345678/artifact"


@pytest.mark.parametrize(
    ("step", "read"),
    [
        ("prepare", {"/claims/corpus.v2/train": "corpus.v2", "/claims/corpus.v2/b": "corpus.v2", BASE: CLAIM}),
        ("learn", {BASE: CLAIM}),
        ("export", {BASE: CLAIM}),
        ("evaluate", {"/claims/live/run/artifact": "live"}),
    ],
)
def test_invariant_h_a_step_writes_its_own_folder_alone_and_reads_what_it_names(
    step: str, read: dict[str, str]
) -> None:
    baseline = Baseline("pvc://live/run/artifact", DIGEST) if step == "evaluate" else None
    pod = a_job(a_plan(**CLAIMS), step, baseline=baseline)["spec"]["template"]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert len({claim["claimName"] for claim in claims.values()}) == len(claims), "one volume a claim"
    mounts = {m["mountPath"]: m for m in pod["containers"][0]["volumeMounts"] if m["name"] in claims}
    own = mounts.pop(FOLDER)
    assert (claims[own["name"]], own["subPath"]) == ({"claimName": CLAIM}, f"demo-{UID[:8]}")
    assert {path: claims[m["name"]]["claimName"] for path, m in mounts.items()} == read
    for path, mount in mounts.items():
        assert mount["readOnly"]
        assert path == f"/claims/{claims[mount['name']]['claimName']}/{mount['subPath']}"


@pytest.mark.parametrize(("step", "whole"), [("prepare", ["/workspace"]), ("learn", []), ("evaluate", [])])
def test_invariant_h_prepare_alone_has_its_folder_made_and_by_fixed_words(step: str, whole: list[str]) -> None:
    pod = a_job(a_plan(), step)["spec"]["template"]["spec"]
    first = pod.get("initContainers", [])
    assert [m["mountPath"] for one in first for m in one["volumeMounts"] if m["name"] == "workspace"] == whole
    assert [one["command"][:3] for one in first] == [["sh", "-c", SCRIPT]] * len(whole)
    assert [one["command"][3:] for one in first] == [["sh", FOLDER, ""]] * len(whole)


def test_what_looks_for_paths_has_whole_claims_read_only_and_no_devices() -> None:
    wanted = {"requests": {"memory": "4Gi", GPU: 1}, "limits": {"memory": "5Gi", GPU: 1}}
    plan = a_plan(**CLAIMS, accelerator=GPU, compute={"resources": wanted})
    (first,) = a_job(plan, "learn")["spec"]["template"]["spec"]["initContainers"]
    (mount,) = [m for m in first["volumeMounts"] if m["mountPath"] not in ("/tmp", "/dev/shm")]
    assert mount == {"name": "workspace", "mountPath": "/claims/slipway-workspace", "readOnly": True}
    assert first["command"][3:] == ["sh", "", BASE, f"model.from: {CLAIMS['model']['from']}", BASE]
    assert first["resources"] == {"requests": {"memory": "4Gi"}, "limits": {"memory": "5Gi"}}


def test_the_baseline_is_remembered_on_the_job() -> None:
    baseline = Baseline("pvc://live/run/artifact", DIGEST)
    told = a_job(a_plan(), "evaluate", baseline=baseline)["metadata"]["annotations"][names.BASELINE]
    assert told == f"pvc://live/run/artifact@{DIGEST}"
    assert names.BASELINE not in a_job(a_plan(), "evaluate")["metadata"]["annotations"]


def test_invariant_e_the_image_is_the_plans() -> None:
    plan = a_plan()
    pinned = plan.model_copy(update={"images": plan.images.model_copy(update={"train": "train@sha256:1"})})
    job = a_job(pinned, images={"train": "train:newer"})
    assert container(job)["image"] == "train@sha256:1"
    assert job["metadata"]["annotations"][names.IMAGE] == "train@sha256:1"


def test_invariant_e_the_same_plan_gives_the_same_job() -> None:
    assert a_job(a_plan()) == a_job(a_plan())


def test_invariant_h_evaluate_reads_the_base_of_an_adapter_that_is_not_merged_and_of_no_other() -> None:
    def read(model: str, *, merged: bool) -> list[str]:
        stage = {"name": "learn", "data": {"train": [{"uri": "package://tang"}]}, "adapter": {"rank": 4}}
        plan = a_plan(model={"from": model}, stages=[stage])
        alone = plan.model_copy(update={"export": Export(merge_adapter=merged), "serving": None})
        return [source.uri for source in step_sources.of(alone, "evaluate")]

    assert read("pvc://models/base", merged=False) == ["pvc://models/base"]
    assert read("pvc://models/base", merged=True) == []
    assert read("hf://org/base", merged=False) == [], "prepare has brought it into the workspace"


def test_invariant_h_evaluate_reads_the_base_that_a_gate_compares_with_and_of_a_model_of_ones_own_nothing() -> None:
    def read(model: str, **spec: Any) -> list[str]:
        evaluation = {"data": [{"uri": "package://tang-held-out"}], "gates": [spec.pop("gate")]}
        plan = a_plan(model={"from": model}, evaluation=evaluation, serving=None, **spec)
        return [source.uri for source in step_sources.of(plan, "evaluate")]

    against = {"metric": "perplexity", "maxRegression": 1, "against": "Base"}
    assert read("pvc://models/base", gate=against) == ["pvc://models/base"]
    assert read("hf://org/base", gate=against) == []
    assert read("pvc://models/base", gate={"metric": "perplexity", "max": 20}, stages=[]) == []
