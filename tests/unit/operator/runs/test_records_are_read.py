"""The cache has the metadata of a record alone: what is in it is read when it is needed, and no more often."""

from __future__ import annotations

import asyncio

from tests.unit.operator.run_world import DIGEST, RunWorld

from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.manifest import at


def reads(world: RunWorld) -> list[str]:
    """The names of the ConfigMaps that are read from now on."""
    found: list[str] = []
    get = world.cluster.get

    async def noted(kind, namespace, name):
        if kind == kinds.CONFIG_MAP and namespace == "default":
            found.append(name)
        return await get(kind, namespace, name)

    world.cluster.get = noted  # type: ignore[method-assign]
    return found


def a_finished_world() -> RunWorld:
    world = RunWorld(spec={"serving": None})
    world.train()
    world.evaluate()
    assert world.phase == "Completed"
    return world


def test_a_run_reads_none_of_the_plan_that_this_process_made():
    world = RunWorld(spec={"serving": None})
    found = reads(world)
    world.train()
    world.evaluate()
    assert set(found) <= {names.plan("demo", world.uid)}
    assert len(found) <= 1, "whether it is there already, before it is made"


def test_a_run_that_is_over_is_looked_at_without_reading_its_plan():
    world = a_finished_world()
    world.start_operator()
    found = reads(world)
    world.settle()
    assert found == []


def test_E_a_run_that_is_told_to_go_on_has_its_plan_read_first():
    world = RunWorld(spec={"retries": 0})
    world.settle()
    world.end("prepare", code=1)
    world.settle()
    assert world.phase == "Failed"
    (plan,) = [cm for cm in world.cluster.all(kinds.CONFIG_MAP) if cm["metadata"]["name"].startswith("demo-plan")]
    text = plan["data"]["plan.json"]
    world.settings = world.settings.model_copy(
        update={"images": world.settings.images.model_copy(update={"train": "slipway-train:newer"})}
    )
    world.start_operator()
    found = reads(world)
    world.annotate(retry="1")
    world.settle()
    assert found == [plan["metadata"]["name"]]
    (container,) = world.job("prepare")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "slipway-train:dev"
    assert world.cluster.one(kinds.CONFIG_MAP, plan["metadata"]["name"])["data"]["plan.json"] == text


def test_A_a_verdict_is_read_once_for_each_of_its_versions():
    world = a_finished_world()
    reader = world.reader()
    found = reads(world)
    name = names.judgement(DIGEST, world.uid, 1)

    def said() -> dict[str, str]:
        return asyncio.run(reader.read("default", name))

    assert said()["digest"] == DIGEST
    assert said()["runUid"] == world.uid
    assert found == [name]
    there = world.cluster.one(kinds.CONFIG_MAP, name)
    world.cluster.put({**there, "data": {**at(there, "data"), "digest": "sha256:other"}})
    assert said()["digest"] == "sha256:other"
    world.cluster.remove(kinds.CONFIG_MAP, "default", name)
    assert said() == {}


def test_H_what_a_verdict_says_beyond_what_is_read_is_not_kept():
    world = a_finished_world()
    name = names.judgement(DIGEST, world.uid, 1)
    there = world.cluster.one(kinds.CONFIG_MAP, name)
    world.cluster.put({**there, "data": {**at(there, "data"), "large": "x" * 100_000, "digest": "x" * 100_000}})
    reader = world.reader()
    said = asyncio.run(reader.read("default", name))
    assert sum(len(value) for value in said.values()) < 1000
