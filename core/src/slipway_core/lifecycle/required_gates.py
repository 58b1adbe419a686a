"""What a run's model lacks of the gates that its endpoint requires: foreseen by the plan, and told of a judgement."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.lifecycle.observed import EndpointView
from slipway_core.plan import Plan
from slipway_core.protocol.preview import RequiredGateView
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.promotion import LACKS_REQUIRED_GATE, Promotion, RequiredGate
from slipway_core.resources.required_gates import (
    PassedGate,
    Shortfall,
    answering,
    asked_of,
    compares_with_live,
    describe,
    held_against,
    passed_of,
    served_beside,
    shortfalls,
)
from slipway_core.resources.status import EvaluationStatus

NOT_LET_IN = "NotLetIn"
"""Reason of the condition Live: the endpoint requires gates that the model was not judged by."""


def foreseen(plan: Plan, view: EndpointView | None, data: Sequence[str], digest: str | None) -> Blocker | None:
    """Returns what is said from the beginning of a run whose model cannot get to its endpoint however good it is.

    Args:
        data: of each gate, the digest of what it is going to be measured on; empty until prepare has ended, and nothing
            is said of it until then.
        digest: of the model, once it is exported.
    """
    if plan.serving is None or view is None or view.promotion is None:
        return None
    name = plan.serving.endpoint
    if (own := _own_word(plan, view.promotion, name)) is not None:
        return Blocker(LACKS_REQUIRED_GATE, "RemoteCode", own)
    asked = asked_of(plan.evaluation.gates, data)
    lacking = shortfalls(_held_against(plan, view, view.promotion, digest), asked, beside=())
    if not lacking:
        return None
    reason = "GateMissing" if any(one.missing for one in lacking) else "GateWeaker"
    return Blocker(
        LACKS_REQUIRED_GATE, reason, f"{_told(name, lacking)}; a planned run keeps its gates: {_advice(name)}"
    )


def foreseen_answers(plan: Plan, promotion: Promotion, name: str, data: Sequence[str | None]) -> list[RequiredGateView]:
    """Returns of each gate that an endpoint requires whether a plan is going to answer it where its own gates pass.

    Args:
        name: of the endpoint.
        data: of each gate of the plan, the digest of what it is going to be measured on, None where that is not known
            yet; empty where nothing is.
    """
    own = _own_word(plan, promotion, name)
    asked = asked_of(plan.evaluation.gates, data)
    return [_foreseen_answer(plan, required, asked, own) for required in promotion.required_gates]


def _foreseen_answer(
    plan: Plan, required: RequiredGate, asked: Sequence[PassedGate], own: str | None
) -> RequiredGateView:
    gate = describe(required)
    if own is not None:
        return RequiredGateView(gate=gate, answered=False, says=own)
    number = answering(required, asked)
    if number is not None:
        says = f"evaluation.gates[{number}] answers it"
        if required.data is not None and asked[number].data is None:
            return RequiredGateView(gate=gate, answered=None, says=f"{says} if it is measured on that: prepare tells")
        return RequiredGateView(gate=gate, answered=True, says=says)
    (lacking,) = shortfalls([required], asked, beside=())
    if not plan.stages and compares_with_live(required):
        says = f"it is asked of a model that was never live there, and then not answered: {lacking.why}"
        return RequiredGateView(gate=gate, answered=None, says=says)
    return RequiredGateView(gate=gate, answered=False, says=lacking.why)


def _held_against(plan: Plan, view: EndpointView, promotion: Promotion, digest: str | None) -> list[RequiredGate]:
    """Returns the required gates that the model is known to have to answer."""
    if digest is not None:
        return held_against(promotion.required_gates, digest, view.status.live, view.status.history)
    # A model that exists may have been live there; one that is trained has not.
    return [gate for gate in promotion.required_gates if plan.stages or not compares_with_live(gate)]


def refusal(
    plan: Plan, view: EndpointView | None, name: str, evaluation: EvaluationStatus | None, digest: str
) -> str | None:
    """Returns why an endpoint does not take a model that passed; None where it does."""
    if view is None or view.promotion is None or evaluation is None:
        return None
    if (own := _own_word(plan, view.promotion, name)) is not None:
        return own
    live, history = view.status.live, view.status.history
    lacking = shortfalls(
        held_against(view.promotion.required_gates, digest, live, history),
        passed_of(evaluation.metrics, evaluation.baseline_digest),
        beside=served_beside(digest, live, history),
    )
    return f"{_told(name, lacking)}; {_advice(name)}" if lacking else None


def _own_word(plan: Plan, promotion: Promotion, name: str) -> str | None:
    """Returns why no gate is answered of a model whose own code runs where it is judged; None of any other."""
    if not (plan.model.trust_remote_code and promotion.required_gates):
        return None
    return (
        f"endpoint {name} requires gates, and with model.trustRemoteCode the model's own code runs where it is judged "
        "and may write any figure: have it judged without that, by an architecture that transformers has, or have "
        f"somebody with the verb approve change spec.promotion of endpoint {name}"
    )


def _told(name: str, lacking: list[Shortfall]) -> str:
    return f"endpoint {name} requires gates that this run does not have: {'; '.join(map(str, lacking))}"


def _advice(name: str) -> str:
    return (
        "ask for at least that in a run of another name, which may judge this model as it is (`stages: []`, "
        f"`model.from: run://…`), or have somebody with the verb approve change spec.promotion of endpoint {name}"
    )
