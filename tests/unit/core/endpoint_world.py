"""A small world to run the rollout in: an executor that applies decisions, and hands that move servers and specs.

Every pass checks invariants A and B of the design, so each test that uses it proves them for its own story too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway_core.lifecycle.annotations import RETRY_ANNOTATION
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointPhase, EndpointStatus, ParityStatus, VersionStatus
from slipway_core.rollout import step as rollout
from slipway_core.rollout.decision import EndpointDecision
from slipway_core.rollout.observed import EndpointObserved, Judged, Proof, RunJudgements, VersionView

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def an_endpoint(model: str | None = "a", **spec: Any) -> ModelEndpoint:
    """An endpoint `chat` that serves the model with that letter, with a short probation."""
    more = {"acceptUnjudged": True} if spec.pop("accept_unjudged", False) else {}
    if (secret := spec.pop("credentials", None)) is not None:
        more["credentials"] = secret
    folder = spec.pop("folder", "file:///models")
    served = {"model": {"uri": f"{folder}/{model}", "digest": digest(model), **more}} if model else {}
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": "chat", "generation": 1},
        "spec": {"rollout": {"startTimeout": "10m", "probation": "30s", **spec.pop("rollout", {})}, **served, **spec},
    }
    return ModelEndpoint.model_validate(document, by_alias=True, by_name=False)


def a_record(of: str) -> ParityStatus:
    return ParityStatus(uri=f"file:///runs/{of[-1]}/evaluation/1/parity.json", digest=digest("f"))


@dataclass
class EndpointWorld:
    endpoint: ModelEndpoint
    passed: set[str] = field(default_factory=lambda: {digest("a"), digest("b")})
    without_record: set[str] = field(default_factory=set)
    """Digests that were judged without leaving a record of parity."""
    now: datetime = NOON
    versions: dict[int, VersionView] = field(default_factory=dict)
    route: int | None = None
    started: list[int] = field(default_factory=list)
    """Every start of a server, in order."""
    admitted: dict[int, str] = field(default_factory=dict)
    """Digest of every version that ever became a candidate by right."""
    accepted: set[str] = field(default_factory=set)
    """Digest of every model that some spec accepted without a verdict."""
    events: list[str] = field(default_factory=list)
    blockers: tuple[Blocker, ...] = ()
    proofs: dict[str, Proof] = field(default_factory=dict)
    """What the statements say; whoever sets one keeps `passed` in step with it (`sign`)."""
    revoked: set[str] = field(default_factory=set)
    judged: dict[str, Judged] = field(default_factory=dict)
    """By what models were judged, by their digest."""
    guarded: bool = True
    """Whether approvals are kept from whoever may not give one."""
    judgements: tuple[RunJudgements, ...] = ()
    _again: set[int] = field(default_factory=set)

    # ------------------------------------------------------------------------------------------------ looks

    @property
    def status(self) -> EndpointStatus:
        return self.endpoint.status or EndpointStatus()

    @property
    def phase(self) -> EndpointPhase:
        return self.status.phase

    @property
    def live(self) -> int | None:
        return self.status.live.version if self.status.live else None

    @property
    def candidate(self) -> int | None:
        return self.status.candidate.version if self.status.candidate else None

    def remembered(self, version: int) -> VersionStatus:
        return next(v for v in self.status.history if v.version == version)

    def condition(self, type_: str):
        return next((c for c in self.status.conditions if c.type == type_), None)

    def running(self) -> set[int]:
        return {number for number, view in self.versions.items() if view.state not in ("Failed", "Stopping")}

    def observed(self) -> EndpointObserved:
        return EndpointObserved(
            dict(self.versions),
            self.route,
            frozenset(self.passed),
            "http://127.0.0.1:8000",
            self.endpoint.metadata.annotations.get(RETRY_ANNOTATION),
            self.blockers,
            dict(self.proofs),
            frozenset(self.revoked),
            judgements=self.judgements,
            parity={digest: a_record(digest) for digest in self.passed - self.without_record},
            judged=dict(self.judged),
            approvals_guarded=self.guarded,
        )

    def sign(self, letter: str, proof: Proof) -> None:
        """Says what the statements about a model come to."""
        self.proofs[digest(letter)] = proof
        (self.passed.add if proof.passes else self.passed.discard)(digest(letter))

    # ------------------------------------------------------------------------------------------------ passes

    def decide(self) -> EndpointDecision:
        return rollout.step(self.endpoint, self.observed(), self.now)

    def reconcile(self) -> EndpointDecision:
        decision = self.decide()
        self._check(decision)
        self.endpoint = self.endpoint.model_copy(update={"status": decision.status})
        self.events += [event.reason for event in decision.events]
        for version in decision.start:
            self._start(version.version)
        for number in decision.stop:
            if number in self.versions:
                self.versions[number] = VersionView("Stopping")
                self._again.discard(number)
        if decision.route is not None:
            self.route = decision.route
        return decision

    def settle(self) -> EndpointDecision:
        """Passes until nothing changes any more. What is stopped ends in between."""
        for _ in range(20):
            before = (self.status, dict(self.versions), self.route)
            decision = self.reconcile()
            self._end_stopping()
            if before == (self.status, self.versions, self.route):
                return decision
        raise AssertionError("the rollout does not settle")

    def _start(self, number: int) -> None:
        view = self.versions.get(number)
        if view is not None and view.state == "Stopping":
            self._again.add(number)
        elif view is None or view.state == "Failed":
            self.versions[number] = VersionView("Starting")
            self.started.append(number)

    def _end_stopping(self) -> None:
        for number in [n for n, view in self.versions.items() if view.state == "Stopping"]:
            self.ends(number)

    # ------------------------------------------------------------------------------------------------ hands

    def ready(self, number: int) -> None:
        self.versions[number] = replace(self.versions[number], state="Ready", message=None)

    def answers(self, number: int, *, parity: bool | None = True, unknown: str = "") -> None:
        self.versions[number] = VersionView("Ready", answered=True, parity=parity, parity_unknown=unknown)

    def does_not_answer(self, number: int, message: str = "it answered with 0 tokens") -> None:
        self.versions[number] = VersionView("Ready", message, answered=False)

    def hangs(self, number: int) -> None:
        self.versions[number] = VersionView("Unready", "no answer for 10 s", self.versions[number].answered)

    def crashes(self, number: int, message: str = "exit code 1: out of memory") -> None:
        self.versions[number] = VersionView("Failed", message)

    def ends(self, number: int) -> None:
        del self.versions[number]
        if number in self._again:
            self._again.discard(number)
            self._start(number)

    def executor_restarts(self) -> None:
        """Locally every server ends with the daemon, and a new daemon routes nowhere."""
        self.versions.clear()
        self._again.clear()
        self.route = None

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def ask_for(self, model: str | None, **spec: Any) -> None:
        """Replaces the spec."""
        metadata = self.endpoint.metadata
        metadata = metadata.model_copy(update={"generation": (metadata.generation or 0) + 1})
        wanted = an_endpoint(model, **spec)
        self.endpoint = wanted.model_copy(update={"metadata": metadata, "status": self.endpoint.status})

    def annotate_retry(self, token: str | None) -> None:
        notes = {RETRY_ANNOTATION: token} if token is not None else {}
        metadata = self.endpoint.metadata.model_copy(update={"annotations": notes})
        self.endpoint = self.endpoint.model_copy(update={"metadata": metadata})

    def annotate(self, **notes: str) -> None:
        """Sets the annotations that there are from now on; `approved_by` is slipway.dev/approved-by."""
        own = {f"slipway.dev/{name.replace('_', '-')}": value for name, value in notes.items()}
        metadata = self.endpoint.metadata.model_copy(update={"annotations": own})
        self.endpoint = self.endpoint.model_copy(update={"metadata": metadata})

    def goes_live(self) -> int:
        """Takes the current candidate to the traffic and through its probation."""
        self.settle()
        number = self.candidate
        assert number is not None
        self.answers(number)
        self.settle()
        assert self.live == number
        self.wait(60)
        self.settle()
        return number

    # ------------------------------------------------------------------------------------------------ invariants

    def _check(self, decision: EndpointDecision) -> None:
        status = decision.status
        EndpointStatus.model_validate(status.model_dump())  # What breaks a limit, the API server refuses.
        self._check_gate(decision)
        before, after = self.status.live, status.live
        if before is not None and before.signed_by not in self.revoked:
            assert after is not None, "B: an endpoint that had a live version has none"
        if after is None:
            return
        recreate = self.endpoint.spec.rollout.strategy == "Recreate"
        if before is None or after.version != before.version:
            self._check_take_over(decision, before, after, recreate)
        if not recreate:
            assert after.version not in decision.stop, "B: the live version is stopped"
            assert after.version in {v.version for v in decision.start}, "B: the live version is not kept running"
            self._check_traffic(decision)

    def _check_gate(self, decision: EndpointDecision) -> None:
        model = self.endpoint.spec.model
        if model is not None and model.accept_unjudged:
            self.accepted.add(model.digest)
        candidate = decision.status.candidate
        new = [v for v in (candidate, decision.status.live) if v is not None and v.version not in self.admitted]
        for version in new:
            accepted = version.digest in self.accepted
            assert version.digest in self.passed or accepted, "A: a version without a verdict"
            self.admitted[version.version] = version.digest
        for number in [*(v.version for v in decision.start), decision.route, decision.probe]:
            assert number is None or number in self.admitted, "A: a version that was never admitted is used"

    def _check_take_over(
        self, decision: EndpointDecision, before: VersionStatus | None, after: VersionStatus, recreate: bool
    ) -> None:
        view = self.versions.get(after.version)
        was_live = any(v.version == after.version and v.state == "Standby" for v in self.status.history)
        if not was_live:
            assert view is not None, "B: traffic goes to a version that does not run"
            assert view.state == "Ready", "B: traffic goes to a version that is not ready"
            assert view.answered, "B: traffic goes to a version that answered no prompt"
        elif not recreate:
            assert view is not None, "B: a rollback to a version that does not run"
            assert view.state == "Ready", "B: a rollback to a version that is not ready"
        if before is not None and not recreate and not was_live:
            kept = {v.version for v in decision.start}
            assert before.version in kept, "B: the last good version is not kept through the probation"

    def _check_traffic(self, decision: EndpointDecision) -> None:
        route = self.versions.get(self.route) if self.route is not None else None
        if route is None or route.state != "Ready":
            return
        after = decision.route if decision.route is not None else self.route
        assert after is not None
        view = self.versions.get(after)
        assert view is not None, "B: traffic moves from a ready version to nothing"
        assert view.state == "Ready", "B: traffic moves from a ready version to one that is not"
        assert after not in decision.stop, "B: the version with the traffic is stopped"
