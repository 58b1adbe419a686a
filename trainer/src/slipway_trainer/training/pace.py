"""How fast training goes, and what its time is spent on."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Part = Literal["data", "compute", "communication", "validation", "checkpoint"]
RECENT_STEPS = 20


@dataclass(frozen=True)
class _Lap:
    """From one step whose figures are known to the next."""

    tokens: float
    operations: float
    seconds: float
    spent: Mapping[Part, float]

    @property
    def training(self) -> float:
        """Its seconds without what comes now and then."""
        return self.seconds - self.spent.get("validation", 0.0) - self.spent.get("checkpoint", 0.0)


class Pace:
    """Of the last steps, by the clock of this process. A step is done when its figures are known: a device that is
    still computing it has not done it."""

    def __init__(
        self,
        *,
        tells_communication: bool = False,
        peak_operations: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            tells_communication: whether somebody will count the time that goes into it.
            peak_operations: that all devices together can do in a second; None where it is not known.
        """
        self._tells_communication = tells_communication
        self._peak = peak_operations
        self._clock = clock
        self._laps: deque[_Lap] = deque(maxlen=RECENT_STEPS)
        self._whole: dict[Part, float] = {}
        self._seconds = 0.0
        self._spent: dict[Part, float] = {}
        self._began = clock()
        self._on: Part | None = None

    def begin(self) -> None:
        """Starts the clock: what was before is no training."""
        self._began, self._spent = self._clock(), {}

    @contextlib.contextmanager
    def on(self, part: Part) -> Iterator[None]:
        """Counts the time of a block for a part. A block within another one is counted with that."""
        if self._on is not None:
            yield
            return
        self._on, started = part, self._clock()
        try:
            yield
        finally:
            self._on = None
            self._spent[part] = self._spent.get(part, 0.0) + self._clock() - started

    def done(self, tokens: float, operations: float = 0.0) -> None:
        """Ends a step that took so many tokens and so many operations of the model, over all ranks."""
        now = self._clock()
        seconds, self._began = now - self._began, now
        self._laps.append(_Lap(tokens, operations, seconds, self._spent))
        self._seconds += seconds
        for part, spent in self._spent.items():
            self._whole[part] = self._whole.get(part, 0.0) + spent
        self._spent = {}

    @property
    def tokens_per_second(self) -> float | None:
        """Of training alone, without validation and checkpoints; None before it is known."""
        seconds = self._training
        return sum(lap.tokens for lap in self._laps) / seconds if seconds > 0 else None

    @property
    def utilisation(self) -> float | None:
        """Model FLOPs utilisation (Chowdhery et al. 2022, section 4.1): operations that the model needs over what the
        devices could do meanwhile, without validation and checkpoints. None where that is not known."""
        seconds, done = self._training, sum(lap.operations for lap in self._laps)
        return done / seconds / self._peak if self._peak and done and seconds > 0 else None

    def seconds_for(self, steps: int) -> float:
        return steps * self._training / max(1, len(self._laps))

    def shares(self) -> dict[Part, float]:
        """Returns what the time of the last steps was spent on, as shares of 1; empty before it is known."""
        spent: dict[Part, float] = {}
        for lap in self._laps:
            for part, seconds in lap.spent.items():
                spent[part] = spent.get(part, 0.0) + seconds
        return self._shares(spent, sum(lap.seconds for lap in self._laps))

    def shares_of_all(self) -> dict[Part, float]:
        """Returns the same of all steps that this process has taken."""
        return self._shares(self._whole, self._seconds)

    def _shares(self, spent: Mapping[Part, float], seconds: float) -> dict[Part, float]:
        if seconds <= 0:
            return {}
        told: tuple[Part, ...] = ("data", "communication", "validation", "checkpoint")
        found: dict[Part, float] = {
            part: spent.get(part, 0.0) / seconds
            for part in told
            if part != "communication" or self._tells_communication
        }
        return {"compute": 1 - sum(found.values()), **found}

    @property
    def _training(self) -> float:
        return sum(lap.training for lap in self._laps)
