"""Plans and endpoints for the tests of the builders, and everything that is built of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from tests.unit.core.statements import KEY
from tests.unit.operator.manifests.pod_defaults import DEFAULTS

from slipway_core import plan as plans
from slipway_core.lifecycle.decision import Promote
from slipway_core.plan import ExecutorDefaults, Plan
from slipway_core.protocol import envelope
from slipway_core.protocol.commands import Baseline
from slipway_core.protocol.statement import JudgedRun, Judgement, Statement
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import ArtifactStatus, EvaluationStatus, Verdict, VersionStatus
from slipway_core.resources.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.manifests.endpoint.autoscaler import autoscaler
from slipway_operator.manifests.endpoint.deployment import version_deployment
from slipway_operator.manifests.endpoint.network_policy import network_policy
from slipway_operator.manifests.endpoint.pod_disruption_budget import pod_disruption_budget
from slipway_operator.manifests.endpoint.service import endpoint_service
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.run.cleanup_job import cleanup_job
from slipway_operator.manifests.run.model_endpoint import model_endpoint
from slipway_operator.manifests.run.plan_config_map import plan_config_map
from slipway_operator.manifests.run.rendezvous_service import rendezvous_service
from slipway_operator.manifests.run.step_job import step_job
from slipway_operator.manifests.run.verdict_config_map import verdict_config_map
from slipway_operator.manifests.run.workspace_claim import workspace_claim
from slipway_operator.settings import Settings

UID = "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11"
DIGEST = "sha256:" + "a" * 64
NAMESPACE = "team"
CLAIM = "slipway-workspace"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Manifest = dict[str, Any]


def a_run(*, name: str = "demo", stage: str = "learn", **spec: Any) -> TrainingRun:
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "model": {"scratch": {"tokenizer": {"train": {"vocabSize": 512}}}},
            "stages": [{"name": stage, "data": {"train": [{"uri": "package://tang"}]}}],
            "evaluation": {"data": [{"uri": "package://tang-heldout"}], "gates": [{"metric": "perplexity", "max": 20}]},
            "serving": {"endpoint": "chat"},
            **spec,
        },
    }
    return TrainingRun.model_validate(document, by_alias=True, by_name=False)


def a_plan(*, accelerator: str | None = None, version: Literal[1, 2] = 2, **fields: Any) -> Plan:
    defaults = ExecutorDefaults(folder="/opt/slipway/examples", accelerator=accelerator)
    return plans.resolve(a_run(**fields), defaults, version=version)


def the_owner(plan: Plan) -> Owner:
    return Owner.run(plan.run.name, plan.run.uid)


def a_job(
    plan: Plan, step: str = "learn", *, attempt: int = 1, baseline: Baseline | None = None, **settings: Any
) -> Manifest:
    return step_job(plan, the_owner(plan), step, attempt, settings=Settings(**settings), claim=CLAIM, baseline=baseline)


def an_endpoint(*, name: str = "chat", model: dict[str, Any] | None = None, **spec: Any) -> ModelEndpoint:
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": "e" + UID[1:]},
        "spec": {"model": {"uri": a_version().uri, "digest": DIGEST, **(model or {})}, **spec},
    }
    return ModelEndpoint.model_validate(document, by_alias=True, by_name=False)


def a_version(*, number: int = 3, uri: str = f"pvc://{CLAIM}/demo-0b5e1a52/artifact", **fields: Any) -> VersionStatus:
    return VersionStatus(
        version=number, uri=uri, digest=DIGEST, revision="c0ffee", since="2026-01-01T00:00:00Z", **fields
    )


def a_deployment(
    endpoint: ModelEndpoint, version: VersionStatus | None = None, *, replicas: int | None = 1, **settings: Any
) -> Manifest:
    return version_deployment(endpoint, version or a_version(), settings=Settings(**settings), replicas=replicas)


def a_verdict(plan: Plan, *, verdict: Verdict = Verdict.PASS, judged: str = DIGEST, stated: str = DIGEST) -> Manifest:
    """`judged`: what the evaluation says it measured. `stated`: what the statement is about."""
    evaluation = EvaluationStatus(number=1, verdict=verdict, artifact_digest=judged, scored_tokens=1000)
    artifact = ArtifactStatus(uri=a_version().uri, digest=DIGEST)
    run = JudgedRun(name=plan.run.name, uid=plan.run.uid, namespace=NAMESPACE)
    judgement = Judgement(run=run, plan=plan.digest, evaluation=1, judged_at="2026-01-01T00:00:00Z", verdict=verdict)
    statement = Statement.about(stated, judgement)
    serving = plan.serving
    return verdict_config_map(
        NAMESPACE,
        evaluation,
        artifact,
        statement=statement,
        sealed=envelope.seal(statement, KEY),
        endpoint=serving.endpoint if serving is not None else None,
    )


def everything(*, run: str = "demo", stage: str = "learn", endpoint: str = "chat", attempt: int = 1) -> list[Manifest]:
    """One of each object that the operator makes, with every optional part that its pod may have."""
    spec: Manifest = {
        "compute": {
            "nodes": 2,
            "processesPerNode": 2,
            "queue": "team-a",
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "resources": {"requests": {"cpu": "2", "memory": "8Gi", "rdma/ib": 1}, "limits": {"rdma/ib": 1}},
            "podTemplate": "company",
        },
        "model": {"from": "hf://org/base", "credentials": "hub"},
        "serving": {"endpoint": endpoint, "template": {"replicas": 2, "rollout": {"drain": "20s"}}},
    }
    plan = a_plan(name=run, stage=stage, accelerator="nvidia.com/gpu", **spec)
    settings = Settings.model_validate(
        {"images": {"pullSecrets": ["registry"]}, "training": DEFAULTS, "serving": DEFAULTS}
    )
    owner = the_owner(plan)
    baseline = Baseline("pvc://other-claim/live/artifact", DIGEST)
    served = an_endpoint(
        name=endpoint, access={"keysSecret": "keys"}, autoscaling={"maxReplicas": 4}, podTemplate="company"
    )
    fetched = a_version(number=4, uri="s3://models/chat", credentials="store")
    scaler = autoscaler(served, names.version(endpoint, 3))
    assert scaler is not None
    record = Owner("v1", "ConfigMap", "demo-plan", UID)
    return [
        plan_config_map(plan),
        workspace_claim(NAMESPACE, settings),
        rendezvous_service(plan, owner, stage),
        *(step_job(plan, owner, step, attempt, settings=settings, claim=CLAIM) for step in plan.steps[:-1]),
        step_job(plan, owner, "evaluate", attempt, settings=settings, claim=CLAIM, baseline=baseline),
        a_verdict(plan),
        cleanup_job(plan, record, settings=settings, claim=CLAIM),
        cleanup_job(plan, record, settings=settings, claim=CLAIM, keep_artifact=True),
        model_endpoint(Promote(endpoint, a_version().uri, DIGEST, run), a_run(name=run, stage=stage), plan, None),
        version_deployment(served, a_version(), settings=settings, replicas=None),
        version_deployment(
            an_endpoint(name=endpoint, model={"credentials": "store"}), fetched, settings=settings, replicas=2
        ),
        endpoint_service(served, 3),
        pod_disruption_budget(served, 3),
        network_policy(served, settings),
        scaler,
    ]


def pod_specs(manifests: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {})]


def variables(container: Manifest) -> dict[str, Any]:
    """The environment of a container, with the value or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
