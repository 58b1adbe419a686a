"""The kubelet's part in the life of one pod, played by a test: it starts, and ends as the test says.

KWOK leaves those pods alone; kwok/stages.yaml says which.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.integration.api_client import ApiClient, Manifest

from slipway_operator.kube.kinds import POD
from slipway_operator.names import short_uid

_BY_HAND = "test.slipway.dev/by-hand"
_STAYS = "test.slipway.dev/stays"


def model_digest(run_uid: str) -> str:
    """Digest of the model of a run in its own folder, as kwok/stages.yaml makes it."""
    return _digest(short_uid(run_uid))


def _digest(of_folder: str) -> str:
    return f"sha256:{hashlib.sha256(of_folder[-8:].encode()).hexdigest()}"


@dataclass(frozen=True)
class PodHands:
    api: ApiClient
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest["metadata"]["name"]

    @property
    def namespace(self) -> str:
        return self.manifest["metadata"]["namespace"]

    @property
    def labels(self) -> dict[str, str]:
        return self.manifest["metadata"]["labels"]

    @property
    def folder(self) -> str:
        """Where its process works."""
        args = self.manifest["spec"]["containers"][0]["args"]
        return next(argument for argument in args if argument.startswith("/workspace/"))

    def result(self, **fields: Any) -> str:
        """The termination message of its process, with these fields."""
        step, attempt = self.labels["slipway.dev/step"], int(self.labels["slipway.dev/attempt"])
        return json.dumps({"step": step, "attempt": attempt, **fields})

    def evaluation(self, *, digest: str | None = None, scored_tokens: int = 5000, **metrics: float) -> str:
        """The termination message of an evaluation."""
        found = {
            "number": int(self.labels["slipway.dev/attempt"]),
            "artifactDigest": digest or _digest(self.folder),
            "dataDigest": _digest(self.folder),
            "scoredTokens": scored_tokens,
            "parityDigest": _digest("parity"),
        }
        return self.result(metrics=metrics, evaluation=found)

    def runs(self, *, ready: bool = True) -> PodHands:
        self._annotate(_BY_HAND, "true")
        state = {"running": {"startedAt": _now()}}
        return self._status(
            "Running", [{"type": "Ready", "status": "True" if ready else "False"}], state, ready=ready, podIP="10.1.2.3"
        )

    def ends(
        self, exit_code: int, message: str = "", *, reason: str = "", disrupted: str = "", of_pod: str = ""
    ) -> PodHands:
        """Ends it.

        Args:
            exit_code: of its process.
            message: its termination message.
            reason: of the container's end, such as OOMKilled.
            disrupted: the reason of its condition DisruptionTarget, for a pod that somebody took away.
            of_pod: the reason in the pod's own status, such as Evicted.
        """
        self._annotate(_BY_HAND, "true")
        conditions = [{"type": "Ready", "status": "False"}]
        if disrupted:
            conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disrupted})
        ended = {
            "exitCode": exit_code,
            "reason": reason or ("Error" if exit_code else "Completed"),
            "message": message,
            "startedAt": _now(),
            "finishedAt": _now(),
        }
        more = {"reason": of_pod} if of_pod else {}
        return self._status(
            "Failed" if exit_code else "Succeeded", conditions, {"terminated": ended}, ready=False, **more
        )

    def waits(self, reason: str, message: str) -> PodHands:
        """Its container cannot be made yet: ImagePullBackOff, CreateContainerConfigError, …"""
        self._annotate(_BY_HAND, "true")
        return self._status("Pending", [], {"waiting": {"reason": reason, "message": message}}, ready=False)

    def crashes(self, exit_code: int, message: str, *, times: int = 3) -> PodHands:
        """A server that ended for that time, and is about to be started again: in the back-off its restartCount is
        still that of the container that ended."""
        self._annotate(_BY_HAND, "true")
        ended = {"terminated": {"exitCode": exit_code, "reason": "Error", "message": message, "finishedAt": _now()}}
        back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
        unready = [{"type": "Ready", "status": "False"}]
        self._status("Running", unready, ended, ready=False, restarts=times - 1)
        return self._status("Running", unready, back_off, ready=False, restarts=times - 1, last=ended)

    def starts_again(self) -> PodHands:
        """What has crashed runs again, and is not ready yet."""
        (own,) = self.manifest["status"]["containerStatuses"]
        unready, runs = [{"type": "Ready", "status": "False"}], {"running": {"startedAt": _now()}}
        restarts = own["restartCount"] + 1
        return self._status("Running", unready, runs, ready=False, restarts=restarts, last=own["lastState"])

    def stays_when_deleted(self) -> PodHands:
        """Its node no longer answers: a deleted pod stays Terminating."""
        self._annotate(_STAYS, "true")
        return self

    def node_is_back(self) -> None:
        """Its node answers again, and ends the deleted pod."""
        self.api.merge(POD, self.namespace, self.name, {"metadata": {"annotations": {_STAYS: None}}})

    def goes(self) -> None:
        """Is gone at once, whatever it was."""
        self.api.delete(POD, self.namespace, self.name, grace=0)

    def evicted(self) -> None:
        """Is evicted through the API, as `kubectl drain` does it: the API server sets DisruptionTarget."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": self.name}}
        self.api.post(POD.path(self.namespace, self.name, "eviction"), body)

    def _annotate(self, name: str, value: str) -> None:
        self.api.merge(POD, self.namespace, self.name, {"metadata": {"annotations": {name: value}}})

    def _status(
        self,
        phase: str,
        conditions: list[Manifest],
        state: Manifest,
        *,
        ready: bool,
        restarts: int = 0,
        last: Manifest | None = None,
        **more: Any,
    ) -> PodHands:
        now = _now()
        container = self.manifest["spec"]["containers"][0]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
        status = {
            "phase": phase,
            "conditions": [scheduled, *({**condition, "lastTransitionTime": now} for condition in conditions)],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "restartCount": restarts,
                    "state": state,
                    "lastState": last or {},
                }
            ],
            **more,
        }
        changed = self.api.merge(POD, self.namespace, self.name, {"status": status}, subresource="status")
        return PodHands(self.api, changed)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
