import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.unit.operator.fake_cluster import FakeCluster
from tests.unit.operator.run_world import NoMetrics

from slipway_operator.common.large_objects import LATER
from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN
from slipway_operator.reconcilers import reconcilers
from slipway_operator.settings import Settings

SPECS = {
    TRAINING_RUN: {
        "model": {"scratch": {"tokenizer": {"train": {"vocabSize": 512}}}},
        "stages": [{"name": "learn", "data": {"train": [{"uri": "package://tang"}]}}],
    },
    MODEL_ENDPOINT: {"model": {"uri": "pvc://models/a", "digest": "sha256:" + "a" * 64}},
}


@dataclass
class Slow(FakeCluster):
    """Answers no read until it is told to."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, kind, namespace, name):
        self.asked.set()
        await self.answer.wait()
        return await super().get(kind, namespace, name)


def test_passes_over_large_objects_are_made_one_at_a_time_whatever_their_kinds():
    """The memory that they take is the process's: a run of 1.5 MB and such an endpoint together are two of them."""

    async def at_once():
        cluster = Slow()
        for kind in (TRAINING_RUN, MODEL_ENDPOINT):
            note = {"note": "x" * (1 << 20)}
            metadata = {"name": "large", "annotations": note}
            manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": SPECS[kind]}
            cluster.put(manifest)
        passes = reconcilers(cluster, cluster.world, Settings(), NoMetrics(), lambda: datetime(2026, 1, 1, tzinfo=UTC))
        run = asyncio.create_task(passes["TrainingRun"]("default", "large"))
        await asyncio.wait_for(cluster.asked.wait(), 5)
        endpoint = await asyncio.wait_for(passes["ModelEndpoint"]("default", "large"), 5)
        run.cancel()
        return endpoint

    assert asyncio.run(at_once()) == LATER
