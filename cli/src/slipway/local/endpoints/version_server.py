"""A version of an endpoint as this machine runs it: its server, started again when it dies, until it is stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from slipway.local.endpoints.relay import Backend, Unavailable
from slipway.local.endpoints.server_process import Launch, Patience, ServerProcess
from slipway.local.ports import LOOPBACK
from slipway.local.state import StateError
from slipway_core.rollout.observed import VersionView

_RETRY_SECONDS = 10
"""What a client is told when nobody knows yet how long the model takes to load."""


class VersionServer:
    def __init__(
        self,
        number: int,
        launch: Callable[[], Launch],
        patience: Patience,
        ended: Callable[[str, int], None] = lambda why, in_a_row: None,
    ) -> None:
        """`launch` may raise StateError: the version is Failed then, with that message. `ended` is told why the server
        ended whenever it did so unasked, or could not be started, and how many times in a row by now."""
        self.number = number
        self._ended = ended
        self._launch = launch
        self._patience = patience
        self._process: ServerProcess | None = None
        self._failure: str | None = None
        """Why it does not run. None while it does."""
        self._last_failure: str | None = None
        self._failures = 0
        self._next_start = 0.0
        self._loads_within: float | None = None
        """Seconds that the last load took."""
        self._stopping = False
        self._again = False

    @property
    def process(self) -> ServerProcess | None:
        return self._process

    def start(self) -> None:
        """Has it running: now, after the pause that follows a failure, or once what is being stopped is gone."""
        if self._stopping:
            self._again = True
            return
        if self._process is not None or time.monotonic() < self._next_start:
            return
        try:
            self._process = ServerProcess(self._launch(), self._patience)
            self._failure = None
        except (StateError, OSError) as error:
            self._fail(str(error))

    def stop(self) -> None:
        """Drains and ends it. `observe` returns None once it is gone."""
        self._again = False
        self._stopping = True
        if self._process is not None:
            self._process.end()

    def ask(self) -> None:
        if self._process is not None:
            self._process.ask()

    def observe(self) -> VersionView | None:
        """Returns how it is, None when nothing of it is left."""
        self._account()
        if self._stopping:
            return None if self._process is None else VersionView("Stopping")
        if self._failure is not None:
            return VersionView("Failed", self._failure)
        process = self._process
        if process is None:
            return None
        message = process.problem
        if process.state == "Starting" and self._last_failure is not None:
            message = f"it starts again, after {self._last_failure}"
        return VersionView(process.state, message, process.answered, parity=process.parity)

    def target(self) -> Backend | Unavailable:
        """Returns where its requests go."""
        process = self._process
        name = f"version {self.number}"
        if self._stopping:
            return Unavailable(f"{name} is being stopped", _RETRY_SECONDS)
        if process is None or process.ended:
            self._account()
            return Unavailable(f"{name} starts again soon ({self._failure or 'it ended'})", self._until_ready())
        if process.state == "Starting":
            after = f" again, after {self._last_failure}" if self._last_failure else ""
            return Unavailable(f"{name} starts{after}", self._until_ready())
        return Backend(LOOPBACK, process.launch.port)

    def _account(self) -> None:
        """Notices that the process ended, or has run long enough to be trusted again."""
        process = self._process
        if process is None:
            if self._stopping:
                self._stopped()
            return
        if process.ready_at is not None:
            self._loads_within = process.ready_at - process.started
            if process.state == "Ready" and time.monotonic() - process.ready_at >= self._patience.steady:
                self._failures, self._last_failure = 0, None
        if not process.ended:
            return
        self._process = None
        if self._stopping:
            self._stopped()
        else:
            self._fail(process.why_ended())

    def _stopped(self) -> None:
        if self._again:
            self._stopping = self._again = False
            self._failure, self._next_start = None, 0.0
            self.start()

    @property
    def gone(self) -> bool:
        """Whether it was stopped and nothing of it is left."""
        return self._stopping and self._process is None

    def _fail(self, why: str) -> None:
        pause = min(self._patience.first_restart * 2 ** min(self._failures, 16), self._patience.longest_restart)
        self._failures += 1
        self._next_start = time.monotonic() + pause
        self._failure = self._last_failure = why
        self._ended(why, self._failures)

    def _until_ready(self) -> int:
        if self._loads_within is None:
            return _RETRY_SECONDS
        begins = self._process.started if self._process else max(self._next_start, time.monotonic())
        return min(60, max(1, math.ceil(begins + self._loads_within - time.monotonic())))
