"""One judgement of an artifact, with the signed statement by which an endpoint may serve it, or not (invariant A)."""

from __future__ import annotations

import json

from slipway_core.protocol import envelope
from slipway_core.protocol.statement import Statement
from slipway_core.protocol.workspace import parity_uri
from slipway_core.resources.status import ArtifactStatus, EvaluationStatus
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest

STATEMENT_KEY = "statement"
"""The envelope. All else but where the record of parity lies is for people, or what releases wrote that signed none."""
DIGEST_KEY = "digest"
VERDICT_KEY = "verdict"
RUN_UID_KEY = "runUid"
JUDGED_AT_KEY = "judgedAt"
PARITY_URI_KEY = "parityUri"
PARITY_DIGEST_KEY = "parityDigest"


def verdict_config_map(
    namespace: str,
    evaluation: EvaluationStatus,
    artifact: ArtifactStatus,
    *,
    statement: Statement,
    sealed: str,
    endpoint: str | None,
) -> Manifest:
    """Returns the ConfigMap. It has no owner and none of the run's labels: it outlives the run.

    Args:
        namespace: of the run.
        evaluation: that was made, passed or not.
        artifact: that was judged.
        statement: on it.
        sealed: its envelope.
        endpoint: that the run promotes to; the judgement stays while there is one of that name.

    Raises ValueError where these are not about one judgement: such a ConfigMap would say what nobody judged.
    """
    judged, digest = statement.predicate, artifact.digest
    if not evaluation.artifact_digest == digest == statement.digest:
        raise ValueError(
            f"run {judged.run.name}: evaluation {evaluation.number} is of {evaluation.artifact_digest}, and the "
            f"statement of {statement.digest}, which is no judgement of {digest}"
        )
    own = {} if endpoint is None else {names.JUDGED_FOR: names.label(endpoint)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.judgement(digest, judged.run.uid, evaluation.number),
            "namespace": namespace,
            "labels": {
                names.MANAGED_BY: names.MANAGED_BY_VALUE,
                names.ROLE: "verdict",
                names.DIGEST: names.digest_label(digest),
                names.SIGNED_BY: envelope.read(sealed).key_id,
                **own,
            },
        },
        "immutable": True,
        "data": {
            STATEMENT_KEY: sealed,
            VERDICT_KEY: evaluation.verdict.value,
            DIGEST_KEY: digest,
            "uri": artifact.uri,
            "run": judged.run.name,
            RUN_UID_KEY: judged.run.uid,
            "planDigest": judged.plan,
            JUDGED_AT_KEY: judged.judged_at,
            **_parity(evaluation, artifact),
            "evaluation": json.dumps(evaluation.to_document(), ensure_ascii=False, indent=2),
        },
    }


def _parity(evaluation: EvaluationStatus, artifact: ArtifactStatus) -> dict[str, str]:
    """What a server of the model proves itself by, where the evaluation left it."""
    if evaluation.parity_digest is None:
        return {}
    return {PARITY_URI_KEY: parity_uri(artifact.uri, evaluation.number), PARITY_DIGEST_KEY: evaluation.parity_digest}
