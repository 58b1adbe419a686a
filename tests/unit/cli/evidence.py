"""Runs as they lie in a state folder, and curves as a stage logs them."""

import json
from datetime import UTC, datetime

from slipway.local.state import State
from slipway.training_metrics import stage_metrics
from slipway_core import plan
from slipway_core.documents import loading
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import (
    ArtifactStatus,
    EvaluationStatus,
    MetricStatus,
    Phase,
    Progress,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
)

UID = "0c0ffee0-1111-2222-3333-444455556666"
DIGEST = "sha256:" + "a" * 64
YAML = """\
apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {{name: {name}}}
spec:
  model: {{scratch: {{layers: 2, tokenizer: {{train: {{vocabSize: 512}}}}}}}}
  stages:
  - name: pretrain
    data: {{train: [{{uri: file://corpus.jsonl}}], validation: {{fraction: 0.1}}}}
    optimizer: {{learningRate: 3e-3}}
  - name: sft
    objective: Chat
    data: {{train: [{{uri: file://chat.jsonl}}]}}
  evaluation:
    data: [{{uri: file://heldout.jsonl}}]
    gates: [{{metric: bits_per_byte, max: 3, minTokens: 100}}]
"""


def run_named(name="tang"):
    run = loading.load_run(YAML.format(name=name))
    metadata = run.metadata.model_copy(update={"uid": UID, "creation_timestamp": timestamp(datetime.now(UTC))})
    return run.model_copy(update={"metadata": metadata})


def entered(workdir, name="tang", status=None, curves=None):
    """Enters a run into the state folder as `slipway run` does, with what its stages logged."""
    state = State.below(workdir)
    run, folder = run_named(name), state.run(name)
    folder.save(run)
    folder.save_status(status or RunStatus())
    workspace = folder.workspace(run)
    workspace.root.mkdir(parents=True)
    workspace.plan.write_text(plan.resolve(run).to_json())
    for stage, rows in (curves or {}).items():
        path = workspace.stage(stage).metrics
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rejected(value=4.2):
    """Returns the status of a run that trained, and did not pass."""
    done = {"state": StepState.SUCCEEDED, "attempt": 1}
    steps = [StepStatus(name=name, **done) for name in ("prepare", "pretrain", "sft", "export", "evaluate")]
    steps[1] = steps[1].model_copy(update={"progress": Progress(step=40, total=40, loss=2.5)})
    gate = MetricStatus(name="bits_per_byte", value=value, threshold="<= 3", verdict=Verdict.FAIL)
    evaluation = EvaluationStatus(number=1, verdict=Verdict.FAIL, metrics=[gate], scored_tokens=5000)
    artifact = ArtifactStatus(uri="file:///nowhere/artifact", digest=DIGEST)
    return RunStatus(phase=Phase.REJECTED, stages=steps, evaluation=evaluation, artifact=artifact)


def rows(losses, validation=None):
    """Returns the rows of a stage: its losses from step 1 on, and the validation losses by step."""
    for step, loss in enumerate(losses, start=1):
        row = {"step": step, "loss": loss, "learningRate": 1e-3, "tokensPerSecond": 1000.0}
        yield row | ({"validationLoss": validation[step]} if validation and step in validation else {})


def curves(losses, validation=None):
    return stage_metrics("pretrain", rows(losses, validation))
