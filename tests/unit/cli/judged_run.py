"""A run that was judged, with all that it leaves, as it lies in a state folder."""

import json

from tests.unit.cli.evidence import UID, entered, run_named

from slipway.local.state import State
from slipway_core import plan
from slipway_core.protocol import artifact
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.model_endpoint import ModelEndpoint, ModelEndpointSpec, ServedModel
from slipway_core.resources.status import (
    ArtifactStatus,
    EndpointStatus,
    EvaluationStatus,
    MetricStatus,
    Phase,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
    VersionStatus,
)

HELD_OUT = "sha256:" + "d" * 64
SAMPLES = [
    {
        "conversations": [{"role": "user", "content": "谁写了《静夜思》？"}],
        "answer": "李白",
        "wanted": "李白",
        "exact": True,
    },
    {
        "conversations": [{"role": "user", "content": "背诵《静夜思》"}],
        "answer": "床前",
        "wanted": "床前明月光",
        "exact": False,
    },
    {
        "conversations": [{"role": "user", "content": "who?"}],
        "answer": "nobody knows",
        "wanted": "Li Bai",
        "exact": False,
    },
]
LIVE = [{"sample": 0, "answer": "李白"}, {"sample": 1, "answer": "床前明月光"}, {"sample": 2, "answer": "nobody"}]


def gate(**changes):
    fields = {
        "name": "bits_per_byte", "value": 2.9, "threshold": "<= 3", "verdict": Verdict.PASS,
        "lower": 2.8, "upper": 2.97, "confidence": 0.95, "clusters": 40,
    }  # fmt: skip
    return MetricStatus(**{**fields, **changes})


def judged(
    workdir, name="tang", *, gates=None, samples=SAMPLES, live=LIVE, base=None, report=None, data="e", verdict=None,
    values=None, run=None,
):  # fmt: skip
    """Enters a run that ended with a verdict. Returns its folder.

    Args:
        base: the URI of the model that it started from; a new one when None.
        values: what was measured of it.
        run: changes it before it is entered.
    """
    gates = [gate()] if gates is None else gates
    done = {"state": StepState.SUCCEEDED, "attempt": 1}
    steps = [StepStatus(name=step, **done) for step in ("prepare", "pretrain", "sft", "export", "evaluate")]
    folder = entered(
        workdir, name, curves={"pretrain": [{"step": n, "loss": 4 / n, "tokensPerSecond": 90} for n in (1, 2, 3)]}
    )
    one = run_named(name)
    if run is not None:
        one = run(one)
        folder.save(one)
    workspace = folder.workspace(one)
    resolved = plan.resolve(one)
    workspace.plan.write_text(resolved.to_json())
    workspace.artifact.mkdir()
    (workspace.artifact / "model.safetensors").write_bytes(name.encode())
    made_of = {
        "base": {"uri": base, "digest": "sha256:" + "b" * 64} if base else {"scratch": {"architecture": "llama"}}
    }
    manifest = artifact.build(
        workspace.artifact, run=name, plan_digest=resolved.digest, created_at="2026-01-02T03:04:05Z",
        data={"pretrain/train": "sha256:" + data * 64}, lineage=made_of,
    )  # fmt: skip
    (workspace.artifact / artifact.MANIFEST).write_text(artifact.dump(manifest))
    file = {"uri": "file://corpus.jsonl", "name": "corpus.jsonl", "sha256": "c" * 64, "bytes": 12}
    prepared = {
        "stages": {"pretrain": {"train": {"digest": "sha256:" + data * 64, "rows": 7, "tokens": 900, "files": [file]}}},
        "evaluation": {"digest": HELD_OUT, "documents": 40, "files": [{**file, "name": "heldout.jsonl"}]},
        "prompts": {"prompts": len(samples), "files": []},
    }
    workspace.prepared.write_text(json.dumps(prepared))
    workspace.evaluation(1).mkdir(parents=True)
    document = {
        "version": 1,
        "data": {"digest": HELD_OUT},
        "metrics": values or {"bits_per_byte": 2.9},
        "baseline": {"digest": "sha256:" + "f" * 64, "metrics": {"bits_per_byte": 2.95}},
        **(report or {}),
    }
    workspace.report(1).write_text(json.dumps(document))
    workspace.samples(1).write_text("".join(json.dumps(row) + "\n" for row in samples))
    if live:
        workspace.live_samples(1).write_text("".join(json.dumps(row) + "\n" for row in live))
    outcome = verdict or Verdict.PASS
    evaluation = EvaluationStatus(
        number=1,
        verdict=outcome,
        metrics=gates,
        scored_tokens=900,
        data_digest=HELD_OUT,
        artifact_digest=manifest.digest,
    )
    place = ArtifactStatus(uri=f"file://{workspace.artifact}", digest=manifest.digest)
    phase = Phase.COMPLETED if outcome is Verdict.PASS else Phase.REJECTED if outcome is Verdict.FAIL else Phase.HELD
    folder.save_status(
        RunStatus(phase=phase, stages=steps, evaluation=evaluation, artifact=place, plan_digest=resolved.digest)
    )
    return folder


def served(workdir, folder, name="chat"):
    """Enters an endpoint that serves what a run made."""
    made = folder.status().artifact
    endpoint = State.below(workdir).endpoint(name)
    model = ServedModel(uri=made.uri, digest=made.digest, run=folder.name)
    endpoint.save(ModelEndpoint(metadata=Metadata(name=name), spec=ModelEndpointSpec(model=model)))
    live = VersionStatus(
        version=3, uri=made.uri, digest=made.digest, run=folder.name, state="Live", since="2026-01-02T03:04:05Z"
    )
    endpoint.save_status(EndpointStatus(live=live))
    return endpoint


__all__ = ["UID", "gate", "judged", "served", "timestamp"]
