"""What `helm test` runs in a pod: the operator is ready, and the API server takes a good run and refuses a bad one."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
SERVER = os.environ.get("SERVER", "https://kubernetes.default.svc")
PATIENCE = float(os.environ.get("PATIENCE", "30"))
RUNS = f"{SERVER}/apis/slipway.dev/v1alpha1/namespaces/{os.environ['NAMESPACE']}/trainingruns"
GOOD = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "slipway-test"},
    "spec": {
        "model": {"from": "hf://org/name"},
        "stages": [{"name": "sft", "objective": "Chat", "steps": 1, "data": {"train": [{"uri": "package://tang"}]}}],
    },
}
BAD = {**GOOD, "spec": {**GOOD["spec"], "stages": []}}


def answer(request: urllib.request.Request) -> tuple[int, str]:
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answered:
            return answered.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def ready() -> tuple[int, str]:
    """A network that enforces policies lets a new pod in where it may once it has heard of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = answer(urllib.request.Request(f"{os.environ['OPERATOR']}/readyz"))
        if found[0] == 200 or time.monotonic() > deadline:
            return found
        time.sleep(1)


def dry_run(run: dict) -> tuple[int, str]:
    headers = {
        "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
        "Content-Type": "application/json",
    }
    return answer(urllib.request.Request(f"{RUNS}?dryRun=All", json.dumps(run).encode(), headers))


found = {
    "the operator is ready": (ready(), 200),
    "a good run is taken": (dry_run(GOOD), 201),
    "a run without stages is refused": (dry_run(BAD), 422),
}
for what, ((code, words), wanted) in found.items():
    print(f"{'ok' if code == wanted else 'FAILED'}: {what}: {code or 'no answer'}, wanted {wanted}")
    # What was wanted is no news: the words of a refusal would read as a failure.
    if code != wanted and words:
        print(words)
sys.exit(any(code != wanted for (code, _), wanted in found.values()))
