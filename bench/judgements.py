"""What a model's judgements cost the operator: CPU-seconds of an endpoint's passes, and memory.

    python -m bench.judgements 1 200 1000 1900

Each judgement is of a run of its own, with 16 gates that the endpoint requires. The API server is one in memory, so it
is the operator's own work that is measured.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable

from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld

from slipway_core.protocol.statement import AskedOfIt, JudgedData, JudgedGate
from slipway_core.resources.status import Verdict

GATES = 16
PASSES = 20


def a_world(judgements: int) -> ServedWorld:
    world = ServedWorld()
    world.judged("a")
    for night in range(judgements):
        _judge(world, night)
    required = [
        {"metric": "bits_per_byte", "source": f"s{number}", "max": 4.0, "confidence": 0.95} for number in range(GATES)
    ]
    world.serve("a", promotion={"requiredGates": required})
    return world


def _judge(world: ServedWorld, night: int) -> None:
    gates = [
        JudgedGate(
            metric="bits_per_byte",
            source=f"s{number}",
            threshold="<= 4",
            verdict=Verdict.PASS,
            value=3.5 + night / 1e4,
            lower=3.25,
            upper=3.75,
            confidence=0.95,
            clusters=40,
            asked=AskedOfIt(max=4.0, confidence=0.95),
        )
        for number in range(GATES)
    ]
    data = JudgedData(held_out="sha256:" + "34" * 32, sketch=[f"{number:016x}" for number in range(64)])
    world.signed("a", run=f"night-{night}", number=night + 1, gates=gates, data=data, endpoint=NAME)


def cpu_ms(what: Callable[[], object]) -> float:
    begun = time.process_time()
    what()
    return (time.process_time() - begun) * 1000


def measure(judgements: int) -> str:
    world = a_world(judgements)
    gc.collect()
    tracemalloc.start()
    world.goes_live()
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()

    async def passes() -> None:
        for _ in range(PASSES):
            await world.reconciler.reconcile(NAMESPACE, NAME)

    idle = cpu_ms(lambda: asyncio.run(passes())) / PASSES
    _judge(world, judgements)
    after = cpu_ms(world.reconcile)
    return f"{judgements:>10} {idle:>10.2f} {after:>10.1f} {memory:>8.1f}"


def main() -> None:
    print(f"{'judgements':>10} {'ms a pass':>10} {'one more':>10} {'MiB':>8}")
    for number in sys.argv[1:] or ("1", "200", "1000"):
        print(measure(int(number)), flush=True)


if __name__ == "__main__":
    main()
