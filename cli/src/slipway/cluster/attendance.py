"""Whether an operator looks after the runs of a namespace, as far as this user may know.

The chart tells every user which namespaces its operator watches and which Lease it holds, and lets them read that one:
a status that does not move is no sign, for a step may take hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from slipway.cluster import client_settings
from slipway.cluster.client_settings import OperatorPlace
from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl, NotFound
from slipway_core.resources.api import in_words
from slipway_core.resources.conditions import parse_timestamp, timestamp

_MARGIN = 60.0
"""Seconds beyond its duration after which a Lease counts as run out: this machine's clock is not the cluster's."""
_STAYS = "what trains or serves goes on, and nothing else happens until it is back"


@dataclass(frozen=True)
class Absence:
    """That nobody looks after a namespace."""

    title: str
    figure: str
    fix: str

    def __str__(self) -> str:
        return f"{self.title}: {self.figure}; {self.fix}"


@dataclass(frozen=True)
class Presence:
    figure: str


@dataclass(frozen=True)
class Unknown:
    """That this user cannot know."""

    why: str


@dataclass(frozen=True)
class Attendance:
    """One look at a cluster; another look is another one of these."""

    kubectl: Kubectl
    clock: Callable[[], datetime]

    def of(self, namespace: str) -> Presence | Absence | Unknown:
        place = self._place
        if isinstance(place, Unknown):
            return place
        if place.watch_namespaces and namespace not in place.watch_namespaces:
            return Absence(
                "no operator looks after this namespace",
                f"the chart's watchNamespaces are {', '.join(place.watch_namespaces)}, and not {namespace}",
                f"add {namespace} to them, or submit to one of those (-n)",
            )
        return self._lease(place)

    @cached_property
    def _place(self) -> OperatorPlace | Unknown:
        try:
            place = client_settings.operator_place(self.kubectl)
        except Forbidden:
            return Unknown("this user may not read what the chart says of its operator")
        except ClusterError as error:
            return Unknown(str(error))
        return place or Unknown("the chart says nothing of its operator: it is of an older release")

    def _lease(self, place: OperatorPlace) -> Presence | Absence | Unknown:
        lease = self._found
        title, where = "no operator is at work", f"Lease {place.lease} in namespace {place.namespace}"
        look = f"`kubectl get pods -n {place.namespace}` shows how it is; {_STAYS}"
        if isinstance(lease, Unknown):
            return lease
        if lease is None:
            return Absence(title, f"there is no {where}: none ever was", look)
        spec = lease.get("spec", {})
        renewed, holder = spec.get("renewTime"), spec.get("holderIdentity")
        age = (self.clock() - parse_timestamp(renewed)).total_seconds() if renewed else float("inf")
        if age <= float(spec.get("leaseDurationSeconds") or 15) + _MARGIN:
            by = f" by {holder}" if holder else ""
            return Presence(f"{where}: renewed {in_words(age)} ago{by}")
        # A time, and not how long ago it is: who looks on is told once, and not each time that it is longer ago.
        last = f"was renewed last at {timestamp(parse_timestamp(renewed))}" if renewed else "was never renewed"
        return Absence(title, f"its {where} {last}", look)

    @cached_property
    def _found(self) -> dict[str, Any] | Unknown | None:
        place = self._place
        assert isinstance(place, OperatorPlace)
        try:
            return self.kubectl.in_namespace(place.namespace).get("lease", place.lease)
        except NotFound:
            return None
        except Forbidden:
            return Unknown(f"this user may not read the Lease {place.lease} in namespace {place.namespace}")
        except ClusterError as error:
            return Unknown(str(error))
