"""Environment variables of the processes that an executor starts."""

from __future__ import annotations

RESULT_VARIABLE = "SLIPWAY_RESULT"
"""Environment variable: the file that rank 0 writes its StepResult to, in place."""
PROGRESS_PORT_VARIABLE = "SLIPWAY_PROGRESS_PORT"
"""Environment variable: the port on which rank 0 serves /progress and /metrics; unset, it serves none."""
PROGRESS_HOST_VARIABLE = "SLIPWAY_PROGRESS_HOST"
"""Environment variable: the address it binds, 127.0.0.1 when unset."""
GRACE_VARIABLE = "SLIPWAY_GRACE_SECONDS"
"""Environment variable: seconds between SIGTERM and SIGKILL."""
PLAN_DIGEST_VARIABLE = "SLIPWAY_PLAN_DIGEST"
"""Environment variable: the digest of the plan that the attempt was started for, which covers what decides the model. A
process that finds a plan with another one ends as a failure, which is tried again; unset, it takes what it finds."""
HELD_OUT_DIGEST_VARIABLE = "SLIPWAY_HELD_OUT_DIGEST"
"""Environment variable: the digest of the held-out data, as prepare reported it to the run's record. evaluate measures
upon no other data, and prepare keeps no earlier preparation with another one; unset, they take what they find."""
ARTIFACT_DIGEST_VARIABLE = "SLIPWAY_ARTIFACT_DIGEST"
"""Environment variable: the digest of the model that export reported, for evaluate, which measures no other one. Both
are variables, since an image of an older release refuses arguments that it does not know."""
TRACKING_VARIABLE = "SLIPWAY_TRACKING"
"""Environment variable: spec.tracking as JSON, for a stage and for publish. It may be edited between two attempts, and
the record of the plan is not written anew for that; unset, nothing is tracked."""
JUDGED_VARIABLE = "SLIPWAY_JUDGED"
"""Environment variable: the verdict of the run's record as JSON (`protocol.judged`), for publish."""
JUDGE_KEY_VARIABLE = "JUDGE_API_KEY"
"""Environment variable: the key of evaluation.judge, for `JUDGE_STEPS` alone; it is so called in the Secret too."""
JUDGE_STEPS = ("prepare", "evaluate")
"""Steps that get the key: prepare asks the judge's server whether it takes it, before anything is trained."""
STATEMENT_VARIABLE = "SLIPWAY_STATEMENT"
"""Environment variable: the signed statement (`protocol.envelope`) by which a server may serve its model. It loads none
that the statement does not let through; unset, none is asked for."""
TRUSTED_KEYS_VARIABLE = "SLIPWAY_TRUSTED_KEYS"
"""Environment variable: the keys that may have signed it, as JSON (`protocol.trust`)."""
NODES_VARIABLE = "SLIPWAY_NODES"
"""Environment variable: over how many pods this attempt of a stage is spread. compute may be edited between two
attempts, and the record of the plan is not written anew for that; unset, the plan says it."""
PROCESSES_VARIABLE = "SLIPWAY_PROCESSES_PER_NODE"
"""Environment variable: processes of this attempt in each of its pods; unset, the plan says it."""
WORKSPACE_VARIABLE = "SLIPWAY_WORKSPACE"
"""Environment variable: the run's folder; that of plan.json when unset."""
RUNS_VARIABLE = "SLIPWAY_RUNS"
"""Environment variable: the folder in which `<name>/artifact`, or `<name>/<name>-<uid>/artifact` as the local executor
has it, is the artifact of run `<name>`."""
CLAIMS_VARIABLE = "SLIPWAY_CLAIMS"
"""Environment variable, in a pod alone: the folder in which `<claim>` is where a PersistentVolumeClaim is mounted."""

QUIET_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "",
}
"""What every process of ours gets: no usage reports of the libraries, logs that appear when they are written, and
bytecode that is kept (importing vLLM took 24 s without it and 11 s with it)."""
