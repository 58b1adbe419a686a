"""What an endpoint takes: the gates that the verdict on a model must have, and whether somebody has to approve it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources import conditions
from slipway_core.resources.api import Api, Digest, Rule
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import JUDGE_METRICS, WIN_RATE
from slipway_core.resources.status import Condition

LACKS_REQUIRED_GATE = "LacksRequiredGate"
"""Condition while the model that is asked for was not judged by what the endpoint requires."""
AWAITING_APPROVAL = "AwaitingApproval"
"""Condition while it waits for somebody's approval."""
APPROVAL_REFUSED = "ApprovalRefused"
"""Condition while it waits for an approval that nobody can give: nothing says who may."""
PROMOTION_CONDITIONS = (LACKS_REQUIRED_GATE, AWAITING_APPROVAL, APPROVAL_REFUSED)
JUDGED = "Judged"
"""Condition: whether the model that an endpoint is to serve has a passing verdict."""
ACCEPTED_UNJUDGED = "AcceptedUnjudged"
"""Its reason where the model may start without one."""


def held_by_verdict(found: Sequence[Condition]) -> str | None:
    """Returns why no version of a model starts, where its endpoint says that it is the verdict: another run has judged
    it since, or its statement does not hold. That comes before all that `Promotion` asks."""
    judged = conditions.find(found, JUDGED)
    held = judged is not None and judged.status == "False" and judged.reason != ACCEPTED_UNJUDGED
    return judged.message if judged is not None and held else None


class RequiredGate(Gate):
    """A gate that the model must have passed, or a stricter one."""

    data: Digest | None = None
    """The data that it must have been measured on, as `slipway preview` tells it of the gates of a run, and `report`,
    `status` and `verify` show it of what was judged: the rows that a gate counts, with their answers, and of a task its
    fewshot and limit. Left out, the run chooses its data."""


class Promotion(Api):
    """What an endpoint asks of every new version, whoever brings its model. To change it takes the verb `approve`."""

    rules: ClassVar = (
        # Such a gate would be answered by the verdict of any model behind any address, beside whatever it was held.
        Rule(
            # A gate that its own rules refuse is left to these, so that one mistake is told once.
            f"!has(self.requiredGates) || !self.requiredGates.exists(g, g.metric in {list(JUDGE_METRICS)} && "
            f"(g.metric != '{WIN_RATE}' || has(g.min)) && (!has(g.min) || g.min >= 0.0 && g.min <= 1.0))",
            f"{' and '.join(JUDGE_METRICS)} cannot be required: who judges, by which criteria and beside what, is said "
            "by the run. Require another metric, or set mode: Approval and look at what the judge said",
            lambda self: not any(one.metric in JUDGE_METRICS for one in self.required_gates),
            "requiredGates",
        ),
    )

    mode: Literal["Automatic", "Approval"] = "Automatic"
    """Approval: a model that passed waits until somebody with the verb `approve` says yes (`slipway approve`)."""
    required_gates: Annotated[list[RequiredGate], Field(max_length=16)] = Field(default_factory=list[RequiredGate])
    """Gates that the model must have passed, or stricter ones: with the same metric, task, source, slice and `against`,
    a threshold that lets through no more, no less confidence and minTokens, and the `data` that it names. What source
    or slice leaves out is about all rows, and a gate on some of them is another one. What is compared with the live
    version was compared with one of this endpoint."""
