"""The verdict on an artifact: the one thing that lets an endpoint serve it (invariant A)."""

from __future__ import annotations

import json
from datetime import datetime

from slipway_core.protocol.workspace import parity_uri
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import ArtifactStatus, EvaluationStatus, Verdict
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest

DIGEST_KEY = "digest"
VERDICT_KEY = "verdict"
RUN_UID_KEY = "runUid"
JUDGED_AT_KEY = "judgedAt"
PARITY_URI_KEY = "parityUri"
PARITY_DIGEST_KEY = "parityDigest"
RUN_KEY = "run"
EVALUATION_NUMBER_KEY = "evaluationNumber"
GATES_KEY = "gates"
"""What the model passed, gate by gate: what an endpoint requires is held against it when the run is gone."""
GATES_LIMIT = 12288
"""Characters of that which are read: more than the gates of a run can have."""


def verdict_config_map(
    namespace: str,
    evaluation: EvaluationStatus,
    artifact: ArtifactStatus,
    *,
    run: str,
    uid: str,
    plan_digest: str,
    now: datetime,
) -> Manifest:
    """Returns the ConfigMap. It has no owner and none of the run's labels: it outlives the run.

    Raises ValueError for a verdict that is no pass, or one on another artifact: such a ConfigMap would let a model
    through the gate.
    """
    if evaluation.verdict is not Verdict.PASS or evaluation.artifact_digest != artifact.digest:
        raise ValueError(
            f"run {run}: evaluation {evaluation.number} is {evaluation.verdict} for {evaluation.artifact_digest}, "
            f"which is no pass for {artifact.digest}"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.verdict(artifact.digest),
            "namespace": namespace,
            "labels": {
                names.MANAGED_BY: names.MANAGED_BY_VALUE,
                names.ROLE: "verdict",
                names.DIGEST: names.digest_label(artifact.digest),
            },
        },
        "immutable": True,
        "data": {
            VERDICT_KEY: evaluation.verdict.value,
            DIGEST_KEY: artifact.digest,
            "uri": artifact.uri,
            RUN_KEY: run,
            RUN_UID_KEY: uid,
            "planDigest": plan_digest,
            JUDGED_AT_KEY: timestamp(now),
            EVALUATION_NUMBER_KEY: str(evaluation.number),
            GATES_KEY: _gates(evaluation),
            **_parity(evaluation, artifact),
            "evaluation": json.dumps(evaluation.to_document(), ensure_ascii=False, indent=2),
        },
    }


def _gates(evaluation: EvaluationStatus) -> str:
    told = [one.to_document() for one in evaluation.metrics]
    kept = ("name", "source", "slice", "verdict", "asked")
    gates = [{name: one[name] for name in kept if name in one} for one in told]
    return json.dumps(gates, ensure_ascii=False, separators=(",", ":"))


def _parity(evaluation: EvaluationStatus, artifact: ArtifactStatus) -> dict[str, str]:
    """What a server of the model proves itself by, where the evaluation left it."""
    if evaluation.parity_digest is None:
        return {}
    return {PARITY_URI_KEY: parity_uri(artifact.uri, evaluation.number), PARITY_DIGEST_KEY: evaluation.parity_digest}
