"""What an executor sees of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway_core.protocol.trust import Flaw
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.required_gates import PassedGate
from slipway_core.resources.status import ParityStatus


@dataclass(frozen=True)
class VersionView:
    """A version's processes or Deployment as an executor sees them."""

    state: Literal["Starting", "Ready", "Unready", "Failed", "Stopping"]
    """Unready: ran and does not answer now. Failed: ended, or can never start. Stopping: told to end, not gone yet."""
    message: str | None = None
    answered: bool | None = None
    """Whether a real prompt was answered; None when none was asked yet."""
    waits: bool = False
    """It cannot begin for want of something outside: a place on a node, a claim. Its time to start stands still."""
    began: datetime | None = None
    """When it had all that it needs to start; its time to start counts from there where that is later."""
    parity: bool | None = None
    """Whether its server found itself to be the model that was judged; None where it does not know. Told together with
    `answered`."""
    parity_unknown: str = ""
    """Why it does not know, where it says so."""


@dataclass(frozen=True)
class Proof:
    """What the statements about a model come to."""

    passes: bool
    """Whether a version of it may start."""
    signed_by: str | None = None
    """The key of the statement by which it passes; None of a model that an earlier release let through."""
    flaw: Flaw | None = None
    why: str = ""
    """Why it does not pass."""


@dataclass(frozen=True)
class Judged:
    """By what a model was judged, as far as somebody says so who cannot be forged."""

    run: str | None = None
    evaluation: int | None = None
    """Number of its evaluation in that run."""
    gates: tuple[PassedGate, ...] = ()
    """Every gate that it has passed; of several judgements those of each."""
    run_uid: str | None = None
    """The uid of that run: another one may have its name."""
    remote_code: bool = False
    """Whether the model's own code ran in one of them, whose gates are left out."""


@dataclass(frozen=True)
class Approval:
    """What somebody with the right to do so has approved."""

    user: str
    digest: str
    evaluation: int
    run_uid: str | None = None
    """Of the run whose evaluation it is; None of a model that is known to be judged by none."""


@dataclass(frozen=True)
class RunJudgements:
    """How often models of one run were measured on its held-out data, so far as anybody knows."""

    uid: str
    """Of the run."""
    judgements: int
    since: str
    """When the newest of these was."""
    sketch: str
    """The smallest hashes of the data."""


@dataclass(frozen=True)
class EndpointObserved:
    versions: Mapping[int, VersionView] = field(default_factory=dict[int, VersionView])
    """Every version that has anything running."""
    route: int | None = None
    """The version that gets the traffic."""
    passed: Set[str] = frozenset()
    """Digests of the artifacts that have a passing verdict."""
    url: str | None = None
    retry: str | None = None
    """The annotation slipway.dev/retry of the endpoint."""
    blockers: tuple[Blocker, ...] = ()
    """What keeps the executor from doing what the spec asks for; each is a condition while it lasts."""
    proofs: Mapping[str, Proof] = field(default_factory=dict[str, Proof])
    """What the statements say, by digest; those that pass are in `passed` too. Empty of an executor that asks for no
    statements."""
    revoked: Set[str] = frozenset()
    """Keys that are trusted no more, whatever they signed."""
    parity: Mapping[str, ParityStatus] = field(default_factory=dict[str, ParityStatus])
    """The records by which servers of these artifacts prove themselves, by the artifact's digest."""
    judged: Mapping[str, Judged] = field(default_factory=dict[str, Judged])
    """By what models were judged, by their digest; needed where the endpoint has `promotion`."""
    approvals_guarded: bool = False
    """Whether something keeps an approval from being written by whoever may not give one."""
    judgements: tuple[RunJudgements, ...] = ()
    """The runs whose models were judged for this endpoint, as far as they or their statements are still there."""
