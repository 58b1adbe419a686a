"""D: stages that are killed and stopped again and again, whenever, end as if nothing had been.

SIGKILL and SIGTERM, as the ranks start, take steps and write checkpoints, of one and of two processes under ZeRO 0, 1
and 3, and of a number of processes that changes. `SLIPWAY_KILLS` says how many. Here the ranks are forked, and what the
launcher does when one is gone is done for it; `tests/e2e/test_kills.py` kills whole runs.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.trainer.nursery import Group, Nursery
from tests.integration.trainer.training import PRETRAIN, Training, make

from slipway_core.protocol import exit_codes

KILLS = int(os.environ.get("SLIPWAY_KILLS", "10"))
"""Ten take 75 CPU-seconds with all that they are compared with; `make chaos` has a hundred."""
SEED = int(os.environ.get("SLIPWAY_KILLS_SEED", "7"))
GRACE = 20.0
"""Seconds that ranks have to end once they are told to, as the launcher gives them some."""
PATIENCE = 120.0
"""Seconds in which something has to happen on a busy machine."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 30 * KILLS)]


@dataclass(frozen=True)
class Case:
    zero_stage: int
    worlds: tuple[int, ...]
    """Processes of one attempt after the other, over and over."""
    saved_every: int | str = 2
    """Steps, or a time."""
    steps: int = 40

    def run(self, folder: Path) -> Training:
        stage = {"steps": self.steps, "memory": {"zeroStage": self.zero_stage}}
        data = {"data": {"validation": {"fraction": 0.1, "everySteps": 7}}}
        name = "everySteps" if isinstance(self.saved_every, int) else "interval"
        return make(folder, PRETRAIN | stage | data, checkpoints={"keep": 2, name: self.saved_every})


CASES = [
    Case(0, (1,), "1s", steps=120),
    Case(1, (2,)),
    Case(3, (2,)),
    Case(3, (1, 2)),
    Case(1, (1,)),
]
if KILLS >= 50:
    CASES += [Case(0, (2,)), Case(2, (2, 1, 3))]
MOMENTS = [
    (signal.SIGKILL, "write"),
    (signal.SIGTERM, "step"),
    (signal.SIGKILL, "step"),
    (signal.SIGTERM, "write"),
    (signal.SIGKILL, "start"),
    (signal.SIGTERM, "start"),
]


class Killer:
    """Kills the attempts of one stage."""

    def __init__(self, ranks: Nursery, run: Training, worlds: tuple[int, ...], chance: random.Random) -> None:
        self.ranks = ranks
        self.run = run
        self.worlds = worlds
        self.chance = chance
        self.attempt = 0

    def start(self) -> Group:
        self.attempt += 1
        return self.ranks.start(self.run, world=self.worlds[self.attempt % len(self.worlds)], attempt=self.attempt)

    def kill(self, number: signal.Signals, moment: str) -> bool:
        """Kills an attempt. Returns whether it was one of a stage that had not ended yet."""
        reached = taken(self.run)
        group = self.start()
        self._wait(group, moment, reached)
        hit = group.alive
        # A launcher hands SIGTERM on to all. SIGKILL may take a rank alone, or the node.
        alone = number == signal.SIGKILL and self.chance.random() < 0.5
        group.signal(number, *([self.chance.randrange(len(group.pids))] if alone else []))
        if alone:
            time.sleep(0.2)
            group.signal(signal.SIGTERM)
        codes = group.wait(GRACE)
        known = {0, exit_codes.RESTARTABLE, exit_codes.LOST_PEERS, -signal.SIGKILL, -signal.SIGTERM}
        assert set(codes) <= known, f"{number.name}, {moment}: {codes}\n{group.said()}"
        return hit and 0 not in codes

    def finish(self) -> None:
        self.start().finish()

    def _wait(self, group: Group, moment: str, reached: int) -> None:
        deadline = time.monotonic() + PATIENCE
        if moment == "start":
            time.sleep(self.chance.uniform(0.0, 1.0))
            return
        wanted = reached + self.chance.randint(1, 5)
        while group.alive and not (writing(self.run) if moment == "write" else taken(self.run) >= wanted):
            assert time.monotonic() < deadline, group.said()
            # A checkpoint is written in some milliseconds.
            time.sleep(0.0005 if moment == "write" else 0.005)


def taken(run: Training) -> int:
    """Returns the number of steps that are told."""
    try:
        return run.folder().metrics.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def writing(run: Training) -> bool:
    return any(run.folder().checkpoints.glob(".step-*.tmp-*"))


def test_D_kills_and_stops_at_any_moment_change_nothing(ranks: Nursery, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    started, spent, told = time.monotonic(), ranks.cpu_seconds(), Counter[str]()
    undisturbed: dict[Case, Training] = {}
    killed: dict[Case, Killer] = {}
    done = cut = 0
    for number in range(10 * KILLS):
        if done >= KILLS and cut:
            break
        turn, which = divmod(number, len(CASES))
        case, moment = CASES[which], MOMENTS[(which + turn) % len(MOMENTS)]
        if case not in undisturbed:
            undisturbed[case] = case.run(tmp_path / f"undisturbed-{len(undisturbed)}")
            ranks.train(undisturbed[case], world=case.worlds[0])
        if case not in killed:
            killed[case] = Killer(ranks, case.run(tmp_path / str(number)), case.worlds, chance)
        killer = killed[case]
        if killer.kill(*moment):
            done += 1
            told[f"{moment[0].name} {moment[1]}, ZeRO {case.zero_stage}, {case.worlds}"] += 1
            cut += writing(killer.run)
        if killer.run.folder().done.exists():
            same(killer.run, undisturbed[case], case)
            del killed[case]
    for case, killer in killed.items():
        killer.finish()
        same(killer.run, undisturbed[case], case)
    seconds = f"{time.monotonic() - started:.0f} s, {ranks.cpu_seconds() - spent:.0f} CPU-seconds"
    print(f"\n{done} kills in {seconds}, {cut} of them while a checkpoint was written:", *told.items(), sep="\n  ")
    assert done >= KILLS
    assert cut, "no kill was in time for a checkpoint that was being written"


def test_a_disk_that_is_full_for_one_process_costs_a_checkpoint_and_is_told(ranks: Nursery, tmp_path: Path) -> None:
    case = Case(1, (2,), 5, steps=200)
    run = case.run(tmp_path)
    group = ranks.start(run, world=2)
    limits = resource.prlimit(group.pids[1], resource.RLIMIT_FSIZE)
    until(lambda: list(run.folder().checkpoints.glob("step-*")), group)
    # Whatever that process writes ends here, as on a full disk.
    resource.prlimit(group.pids[1], resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    until(lambda: "the checkpoint could not be written" in group.said(), group)
    resource.prlimit(group.pids[1], resource.RLIMIT_FSIZE, limits)
    group.finish()
    undisturbed = case.run(tmp_path / "undisturbed")
    ranks.train(undisturbed, world=2)
    same(run, undisturbed, case)
    assert not list(run.folder().checkpoints.glob(".*"))


def until(condition: Callable[[], object], group: Group) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert group.alive, group.said()
        assert time.monotonic() < deadline, group.said()
        time.sleep(0.001)


def same(run: Training, undisturbed: Training, case: Case) -> None:
    """Checks that a run took the steps of an undisturbed one: each once, with its samples and its losses."""
    close = 0.0 if len(set(case.worlds)) == 1 else 1e-5
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=close, rel=0)
    ours, theirs = run.metrics(), undisturbed.metrics()
    for figure in ("tokens", "epoch"):
        assert [row[figure] for row in ours] == [row[figure] for row in theirs]
    ours, theirs = ([row for row in rows if row["validation_loss"] is not None] for rows in (ours, theirs))
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    expected = [row["validation_loss"] for row in theirs]
    assert [row["validation_loss"] for row in ours] == pytest.approx(expected, abs=close, rel=0)
