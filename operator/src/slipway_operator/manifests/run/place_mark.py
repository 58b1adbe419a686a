"""What an attempt's Job says of where it was to run: that of the resource may have been edited since. Pure.

The resource's own words alone count. What the chart fills in may change with an upgrade, which restarts nothing.
"""

from __future__ import annotations

import hashlib
import json

from slipway_core.plan import Plan
from slipway_core.resources.compute import PLACEMENT
from slipway_core.resources.stage import FIXED_STEPS

_OF_STAGES = frozenset({"nodes", "processes_per_node"})
"""Fields that say nothing of a step which is one process."""
_LENGTH = 16


def place_mark(plan: Plan, step: str) -> str:
    """Returns a mark of where an attempt of a step would run now."""
    fields = {name for name in PLACEMENT if step not in FIXED_STEPS or name not in _OF_STAGES}
    words = plan.compute.model_dump(include=fields, exclude_none=True, mode="json")
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:_LENGTH]
