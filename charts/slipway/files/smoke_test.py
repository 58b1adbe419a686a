"""What `helm test` runs in a pod: the operator is ready, and the API server takes a good run and refuses a bad one."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
SERVER = os.environ.get("SERVER", "https://kubernetes.default.svc")
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


def status(request: urllib.request.Request) -> int:
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace"))
        return error.code


def dry_run(run: dict) -> int:
    headers = {
        "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
        "Content-Type": "application/json",
    }
    return status(urllib.request.Request(f"{RUNS}?dryRun=All", json.dumps(run).encode(), headers))


found = {
    "the operator is ready": (status(urllib.request.Request(f"{os.environ['OPERATOR']}/readyz")), 200),
    "a good run is taken": (dry_run(GOOD), 201),
    "a run without stages is refused": (dry_run(BAD), 422),
}
for what, (code, wanted) in found.items():
    print(f"{'ok' if code == wanted else 'FAILED'}: {what}: {code}, wanted {wanted}")
sys.exit(any(code != wanted for code, wanted in found.values()))
