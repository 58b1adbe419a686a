"""A: what an endpoint asks of a model is held against what a status says that it passed, or a verdict of a run that is
gone."""

import asyncio
import json
from typing import Any

import pytest
from tests.unit.operator.manifests import samples
from tests.unit.operator.served_world import NAMESPACE, ServedWorld, digest

from slipway_core.resources.evaluation import Gate
from slipway_core.resources.required_gates import record_of
from slipway_core.resources.status import ArtifactStatus, EvaluationStatus, MetricStatus, Verdict
from slipway_operator import names
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.kube import kinds
from slipway_operator.manifests.run.verdict_config_map import GATES_LIMIT, verdict_config_map
from slipway_operator.settings import Settings

REQUIRED = {"requiredGates": [{"metric": "perplexity", "max": 20}]}
APPROVAL = {"mode": "Approval"}


def metric(max_: float, verdict: Verdict = Verdict.PASS, **more: Any) -> MetricStatus:
    asked = record_of(Gate(metric="perplexity", max=max_, confidence=0.95))
    return MetricStatus(name="perplexity", threshold=f"<= {max_:g}", verdict=verdict, asked=asked, **more)


def said(*metrics: MetricStatus) -> dict[str, Any]:
    return {"metrics": [one.to_document() for one in metrics]}


def keep_verdict(world: ServedWorld, model: str, *metrics: MetricStatus, run: str = "gone", number: int = 5) -> None:
    """The verdict as the operator writes it."""
    evaluation = EvaluationStatus(
        number=number, verdict=Verdict.PASS, artifact_digest=digest(model), metrics=list(metrics)
    )
    artifact = ArtifactStatus(uri=f"pvc://models/run-{model}/artifact", digest=digest(model))
    plan = {"run": run, "uid": "u", "plan_digest": samples.DIGEST, "now": world.now}
    made = {**evaluation.model_dump(), "parity_digest": digest("e")}
    world.cluster.put(verdict_config_map(NAMESPACE, EvaluationStatus(**made), artifact, **plan))


def a_world(*, guarded: bool = True) -> ServedWorld:
    return ServedWorld(settings=Settings(admission_policies=guarded))


def approve(world: ServedWorld, model: str, evaluation: int) -> None:
    own = {"approved-by": "ada", "approved-digest": digest(model), "approved-evaluation": str(evaluation)}
    world.annotate(**own)


def test_A_a_model_goes_live_by_what_its_run_says_that_it_passed():
    world = a_world()
    world.vouched("a")
    world.judged("a", **said(metric(1e9)))
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateWeaker")
    world.judged("a", run="again", **said(metric(20.0)))
    world.settle()
    assert world.deployed() == [1], "another run has judged the same model by stricter gates"


@pytest.mark.parametrize(
    "has",
    [
        {},
        {"metrics": "none"},
        {"metrics": [None, {"name": "perplexity"}]},
        said(metric(20.0, Verdict.INCONCLUSIVE)),
        {"metrics": [{**metric(20.0).to_document(), "asked": None}]},
        {"metrics": [{**metric(20.0).to_document(), "asked": {"max": "20"}}]},
    ],
)  # fmt: skip
def test_A_what_cannot_be_read_or_did_not_pass_answers_nothing(has):
    world = a_world()
    world.passes("a")
    world.judged("a", **has)
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GatesUnknown")


def test_A_a_run_that_did_not_pass_says_nothing_of_the_model():
    world = a_world()
    world.passes("a")
    world.judged("a", "Fail", run="another", **said(metric(20.0)))
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert world.deployed() == []


def test_B_a_version_comes_back_by_its_verdict_when_its_run_is_gone():
    world = a_world()
    for model in "ab":
        world.judged(model, **said(metric(20.0)))
        keep_verdict(world, model, metric(20.0))
    world.serve("a", promotion=REQUIRED)
    world.goes_live(1)
    world.serve("b", promotion=REQUIRED)
    world.goes_live(2)
    for model in "ab":
        world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, f"run-{model}")
    world.start_operator()
    world.serve("b", promotion=REQUIRED, rollbackTo=1)
    world.goes_live(3)
    assert world.status["live"]["digest"] == digest("a")


def test_the_gates_of_the_largest_verdict_are_read_whole_and_of_a_larger_one_nothing_is_believed():
    world = a_world()
    name = {"name": "chat_bits_per_byte", "source": "s" * 63, "slice": "t" * 63}
    asked = Gate(metric="chat_bits_per_byte", max_regression=1 / 3, against="Base", min_tokens=10**9, confidence=0.95)
    largest = MetricStatus(threshold="", verdict=Verdict.NOT_APPLICABLE, asked=record_of(asked), **name)
    keep_verdict(world, "a", *[largest] * 32)
    reader = VerdictReader(world.cluster, world.cluster.world)  # type: ignore[arg-type]
    read = asyncio.run(reader.read(NAMESPACE, names.verdict(digest("a"))))
    assert len(json.loads(read["gates"])) == 32
    assert len(read["gates"]) <= GATES_LIMIT
    keep_verdict(world, "b", metric(20.0), *[largest] * 63)
    world.judged("b", **said(metric(20.0)))
    world.serve("b")
    world.goes_live(1)
    world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, "run-b")
    world.serve("b", promotion=REQUIRED, limits={"maxQueue": 1})
    world.settle()
    assert world.condition("LacksRequiredGate")["reason"] == "GatesUnknown"


# ------------------------------------------------------------------------------------------------ approval


def test_A_a_model_waits_for_the_approval_of_its_runs_own_evaluation():
    world = a_world()
    world.vouched("a")
    world.judged("a", number=7)
    world.serve("a", promotion=APPROVAL)
    world.settle()
    assert world.status["awaitingApproval"] == {"digest": digest("a"), "run": "run-a", "evaluation": 7}
    approve(world, "a", 6)
    world.settle()
    assert world.deployed() == []
    approve(world, "a", 7)
    world.goes_live(1)
    assert world.status["live"]["approval"]["user"] == "ada"
    assert "awaitingApproval" not in world.status


def test_what_waits_is_told_by_the_run_that_the_endpoint_has_it_of_and_else_by_the_verdict():
    world = a_world()
    keep_verdict(world, "a", metric(20.0), run="gone", number=5)
    world.judged("a", number=2)
    world.judged("a", run="zz-another", number=9)
    world.serve("a", promotion=APPROVAL)
    world.settle()
    endpoint = world.endpoint
    world.cluster.put(
        {**endpoint, "spec": {**endpoint["spec"], "model": {**endpoint["spec"]["model"], "run": "run-a"}}}
    )
    world.settle()
    assert world.status["awaitingApproval"] == {"digest": digest("a"), "run": "run-a", "evaluation": 2}
    for run in ("run-a", "zz-another"):
        world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, run)
    world.start_operator()
    world.settle()
    assert world.status["awaitingApproval"] == {"digest": digest("a"), "run": "gone", "evaluation": 5}


def test_A_without_the_policies_no_approval_counts():
    world = a_world(guarded=False)
    world.passes("a")
    world.serve("a", promotion=APPROVAL)
    approve(world, "a", 1)
    world.settle()
    assert (world.deployed(), world.condition("ApprovalRefused")["reason"]) == ([], "NotGuarded")


def test_F_an_endpoint_that_holds_a_model_back_writes_nothing_more():
    world = a_world()
    world.vouched("a")
    world.judged("a", number=7, **said(metric(1e9)))
    world.serve("a", promotion={**APPROVAL, **REQUIRED})
    world.settle()
    before = len(world.cluster.writes)
    world.settle()
    world.start_operator()
    world.settle()
    assert len(world.cluster.writes) == before
