"""Held-out data wears out: each judgement upon it counts once, whatever becomes of the run, and is said from 20 on."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.endpoint_world import EndpointWorld, an_endpoint
from tests.unit.core.runs import a_run
from tests.unit.core.world import World

from slipway_core.lifecycle.annotations import REEVALUATE_ANNOTATION
from slipway_core.protocol.sketch import sketch_of
from slipway_core.resources.status import EndpointStatus
from slipway_core.rollout import wear
from slipway_core.rollout.observed import RunJudgements

OURS = sketch_of(f"poem {number}" for number in range(40))
MORE = sketch_of(f"poem {number}" for number in range(30, 70))
OTHER = sketch_of(f"chat {number}" for number in range(40))


def judged(uid: int, *, judgements: int = 1, minute: int | None = None, sketch: str = OURS) -> RunJudgements:
    moment = uid if minute is None else minute
    return RunJudgements(f"uid-{uid}", judgements, f"2026-01-01T{moment // 60:02}:{moment % 60:02}:00Z", sketch)


def test_each_judgement_counts_once_however_often_it_is_told_and_when_its_run_is_gone() -> None:
    first = wear.counted(None, [judged(1), judged(2)])
    assert first is not None
    assert first.judgements == 2
    assert wear.counted(first, [judged(1), judged(2)]) == first
    assert wear.counted(first, []) == first
    again = wear.counted(first, [judged(2, judgements=3, minute=9)])
    assert again is not None
    assert again.judgements == 4


def test_only_what_shares_documents_with_the_newest_counts() -> None:
    known = wear.counted(None, [judged(1), judged(2, sketch=OTHER), judged(3, sketch=OTHER), judged(4, sketch=MORE)])
    assert known is not None
    assert known.judgements == 2
    assert [wear.judgements_upon(known, sketch) for sketch in (OURS, MORE, OTHER, sketch_of(["new"]), None)] == [
        2, 2, 2, 0, 0,
    ]  # fmt: skip


def test_other_documents_begin_anew_and_the_old_ones_stay_worn() -> None:
    worn = wear.counted(None, [judged(number) for number in range(30)])
    fresh = wear.counted(worn, [judged(90, sketch=OTHER)])
    assert fresh is not None
    assert fresh.judgements == 1
    back = wear.counted(fresh, [judged(91)])
    assert back is not None
    assert back.judgements == 31


def test_nothing_is_known_without_a_judgement_or_a_sketch() -> None:
    assert wear.counted(None, []) is None
    assert wear.counted(None, [judged(1, sketch=""), judged(2, judgements=0)]) is None
    assert wear.judgements_upon(None, OURS) == 0


def test_a_run_that_is_not_remembered_any_more_is_not_counted_again() -> None:
    runs = [judged(number) for number in range(wear.RUNS + 30)]
    known = wear.counted(None, runs)
    assert known is not None
    assert (known.judgements, len(known.counted)) == (wear.RUNS + 30, wear.RUNS)
    assert wear.counted(known, runs) == known
    of_that_second = judged(999, minute=30)
    assert of_that_second.since == min(one.since for one in known.counted)
    assert wear.counted(known, [of_that_second]) == known, "it may have been counted and forgotten"
    newer = wear.counted(known, [judged(998, minute=31, judgements=5)])
    assert newer is not None
    assert newer.judgements == known.judgements + 1
    again = wear.counted(known, [*runs[1:], replace(runs[0], judgements=2, since="2026-01-02T00:00:00Z")])
    assert again is not None
    assert again.judgements == known.judgements + 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from([OURS, MORE])), max_size=30))
def test_F_whatever_is_seen_when_the_count_is_that_of_the_runs(seen: list[tuple[int, int, str]]) -> None:
    """Runs are seen in any order, together or alone, some of their judgements never by themselves."""
    known, most, data = None, dict[int, int](), dict[int, str]()
    for uid, judgements, sketch in seen:
        data.setdefault(uid, sketch)
        most[uid] = max(judgements, most.get(uid, 0))
        known = wear.counted(known, [judged(uid, judgements=most[uid], sketch=data[uid])])
    assert (known.judgements if known else 0) == sum(most.values())


def test_F_the_status_has_the_count_and_a_pass_that_sees_nothing_new_changes_nothing() -> None:
    world = EndpointWorld(an_endpoint())
    world.judgements = tuple(judged(number) for number in range(19))
    world.goes_live()
    assert world.status.held_out is not None
    assert world.status.held_out.judgements == 19
    assert world.condition("HeldOutWorn") is None
    assert world.decide().status == world.status
    world.judgements = (judged(77),)
    world.reconcile()
    told = world.condition("HeldOutWorn")
    assert told is not None
    assert (told.status, told.reason) == ("True", "JudgedOften")
    assert "judged 20 times" in told.message
    assert world.events.count("JudgedOften") == 1
    assert world.decide().status == world.status
    assert EndpointStatus.model_validate_json(json.dumps(world.status.to_document())) == world.status
    world.judgements = (judged(78, sketch=OTHER),)
    world.reconcile()
    assert world.condition("HeldOutWorn") is None


def test_a_run_says_how_often_it_was_judged_and_a_crash_is_no_judgement() -> None:
    world = World(a_run())
    world.settle()
    world.succeed("prepare", held_out_sketch=OURS)
    assert wear.judgements_of(world.run) is None
    world.through("learn", "export")
    world.succeed("evaluate", evaluation=None)
    world.settle()
    first = wear.judgements_of(world.run)
    assert first is not None
    assert (first.judgements, first.sketch) == (0, OURS)
    for number in (1, 2):
        metadata = world.run.metadata.model_copy(update={"annotations": {REEVALUATE_ANNOTATION: str(number)}})
        world.run = world.run.model_copy(update={"metadata": metadata})
        world.settle()
        world.succeed("evaluate", metrics={})
        world.settle()
        told = wear.judgements_of(world.run)
        assert told is not None
        assert told.judgements == number
    assert wear.judgements_of(a_run()) is None
    status = world.run.status
    assert status is not None
    unfinished = [one.model_copy(update={"finished_at": None}) for one in status.stages]
    for change in ({"held_out_sketch": None}, {"evaluation": None}, {"stages": []}, {"stages": unfinished}):
        run = world.run.model_copy(update={"status": status.model_copy(update=change)})
        assert wear.judgements_of(run) is None, change
    nameless = world.run.metadata.model_copy(update={"uid": None})
    assert wear.judgements_of(world.run.model_copy(update={"metadata": nameless})) is None
