"""Which changes of an endpoint's status may wait: words about a version that starts, or of a condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from slipway_core.resources.status import EndpointStatus
from slipway_operator.soft_status import wordless

_INTERVAL = 10.0


@dataclass
class SoftEndpointWrites:
    """Remembers when the status of each endpoint was written last."""

    monotonic: Callable[[], float]
    interval: float = _INTERVAL
    """Seconds between two writes of nothing but words."""
    _last: dict[str, float] = field(default_factory=dict[str, float])

    def wait(self, uid: str, was: EndpointStatus | None, status: EndpointStatus) -> float | None:
        """Returns the seconds until this status may be written: 0 for now, None when nothing changed."""
        if was == status:
            return None
        if was is None or settled(was) != settled(status):
            return 0.0
        return max(0.0, self._last.get(uid, -self.interval) + self.interval - self.monotonic())

    def written(self, uid: str) -> None:
        self._last[uid] = self.monotonic()

    def forget(self, uid: str) -> None:
        self._last.pop(uid, None)


def settled(status: EndpointStatus) -> EndpointStatus:
    """Returns the status without what is said while a candidate starts, and without the words of conditions."""
    quiet = status.model_copy(update={"conditions": wordless(status.conditions)})
    if status.candidate is None:
        return quiet
    return quiet.model_copy(update={"candidate": status.candidate.model_copy(update={"message": None})})
