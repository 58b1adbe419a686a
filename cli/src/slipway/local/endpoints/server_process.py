"""One server process, from its start to its end: whether it is ready, whether it answers, and why it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from slipway.local.endpoints import server_log
from slipway.local.ports import LOOPBACK
from slipway.local.processes import ProcessId, die_with_parent, signal_group, signal_leader
from slipway.local.scratch import Scratch
from slipway_core.protocol import exit_codes, parity
from slipway_core.protocol.variables import QUIET_ENVIRONMENT


@dataclass(frozen=True)
class Patience:
    """Seconds. Tests are less patient."""

    look: float = 0.5
    """Between two questions for readiness."""
    reply: float = 5.0
    """For the reply to such a question."""
    unready: float = 10.0
    """For how long a server that was ready may not be before it counts as Unready."""
    hung: float = 60.0
    """For how long it may not even accept a question before it is killed."""
    answer: float = 120.0
    """For the answer to the first real prompt: an engine may still compile something for it."""
    kill: float = 10.0
    """Between the end of the drain and SIGKILL."""
    first_restart: float = 1.0
    longest_restart: float = 60.0
    steady: float = 60.0
    """Ready for so long, a server's earlier failures are forgotten."""


@dataclass(frozen=True)
class Launch:
    """How a server is started and asked."""

    command: tuple[str, ...]
    port: int
    """On the loopback address; the relay alone talks to it."""
    log: Path
    drain: float
    """Seconds that its running answers may take after SIGTERM."""
    keys_file: Path | None = None
    max_new_tokens: int = 1024
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that it gets beside those of this process."""
    compares: bool = False
    """Whether it was given a record of the evaluation, and knows whether it is the model that was judged."""


_PROMPT = "Hello"
_PROMPT_TOKENS = 8
_TRIES = 3
_FAILED_LOOKS = 3


class ServerProcess:
    """Starts at once. Ends with the process that made it, however that ends."""

    def __init__(self, launch: Launch, patience: Patience) -> None:
        self.launch = launch
        self._patience = patience
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        self._scratch = Scratch()
        with launch.log.open("ab") as output:
            self._log_start = output.seek(0, os.SEEK_END)
            try:
                self._process = subprocess.Popen(
                    launch.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **QUIET_ENVIRONMENT, **self._scratch.variables(), **launch.environment},
                    start_new_session=True,
                    pass_fds=(self._scratch.handle,),
                    # Every connection to it ends with its parent, so nothing is left to drain then.
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
            except OSError:
                self._scratch.remove()
                raise
        self._id = ProcessId.of(self._process.pid)
        self.started = time.monotonic()
        self.ready_at: float | None = None
        """When it was ready for the first time."""
        self.state: Literal["Starting", "Ready", "Unready"] = "Starting"
        self.answered: bool | None = None
        self.parity: bool | None = None
        """Whether it found itself to be the model that was judged; known when it has answered."""
        self._not_ready: str | None = None
        self._no_answer: str | None = None
        self._killed_because: str | None = None
        self._watching = asyncio.create_task(self._watch())
        self._asking: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def problem(self) -> str | None:
        """Why it is not ready, or did not answer the prompt."""
        return self._no_answer or self._not_ready

    @property
    def ended(self) -> bool:
        """Whether the process is gone. What it left in its group goes with it."""
        if self._process.poll() is None:
            return False
        if not self._watching.cancelled():
            signal_group(self._id, signal.SIGKILL)
            for task in (self._watching, self._asking, self._ending):
                if task is not None:
                    task.cancel()
            self._scratch.remove()
        return True

    def why_ended(self) -> str:
        """Returns the exit code and the log's last words in one line."""
        said = server_log.last_words(self.launch.log, self._log_start)
        if self._killed_because is not None:
            return self._killed_because
        code = exit_codes.shell_code(self._process.returncode)
        if code == exit_codes.BAD_INPUT and said:
            return said
        what = f"its server ended with exit code {code}"
        if code == 128 + signal.SIGKILL:
            what = "its server was killed by SIGKILL, which the kernel also sends when memory runs out"
        elif code > 128:
            what = f"its server was ended by signal {code - 128}"
        return f"{what}: {said}" if said else f"{what}; its log is {self.launch.log}"

    def ask(self) -> None:
        """Asks it a real prompt, once; `answered` says how that went."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())

    def end(self) -> None:
        """SIGTERM, and SIGKILL to the whole group when the drain took too long. Asking twice asks once."""
        if self._ending is None and not self.ended:
            signal_leader(self._id, signal.SIGTERM)
            self._ending = asyncio.create_task(self._kill_after(self.launch.drain + self._patience.kill))

    def kill(self, because: str | None = None) -> None:
        self._killed_because = self._killed_because or because
        signal_group(self._id, signal.SIGKILL)

    async def _kill_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.kill()

    def _client(self, timeout: float) -> httpx.AsyncClient:
        # No proxy from the environment stands between two processes of one machine.
        return httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{self.launch.port}", trust_env=False, timeout=timeout)

    # ------------------------------------------------------------------------------------------------ readiness

    async def _watch(self) -> None:
        failed, last_ready, last_alive = 0, 0.0, 0.0
        async with self._client(self._patience.reply) as client:
            while True:
                status, reason = await _look(client, "/readyz")
                now = time.monotonic()
                if status == 200:
                    failed, last_ready, last_alive = 0, now, now
                    self.ready_at = self.ready_at or now
                    self.state, self._not_ready = "Ready", None
                elif self.ready_at is not None:
                    failed += 1
                    if failed >= _FAILED_LOOKS and now - last_ready >= self._patience.unready:
                        self.state, self._not_ready = "Unready", reason
                        last_alive = await self._check_alive(client, last_alive)
                server_log.bound(self.launch.log)
                await asyncio.sleep(self._patience.look)

    async def _check_alive(self, client: httpx.AsyncClient, last_alive: float) -> float:
        """Kills a server that hangs: it says so itself, or says nothing at all. Returns when it was last alive."""
        status, reason = await _look(client, "/livez")
        now = time.monotonic()
        if status == 503:
            self.kill(f"its server hung and was killed: {reason}")
        if status is not None:
            return now
        if now - last_alive >= self._patience.hung:
            self.kill(f"its server hung and was killed: no answer for {now - last_alive:.0f} s")
        return last_alive

    # ------------------------------------------------------------------------------------------------ the prompt

    async def _ask(self) -> None:
        problem = None
        async with self._client(self._patience.answer) as client:
            for _ in range(_TRIES):
                problem = await self._ask_once(client)
                if problem is None:
                    self.parity = await self._compared(client) if self.launch.compares else None
                    self.answered = True
                    return
                await asyncio.sleep(self._patience.look)
        self.answered, self._no_answer = False, f"it was asked a prompt: {problem}"

    async def _ask_once(self, client: httpx.AsyncClient) -> str | None:
        """Returns what was wrong with the answer, None when it was one."""
        length = min(_PROMPT_TOKENS, self.launch.max_new_tokens)
        body = {"message": _PROMPT, "max_length": length, "temperature": 0}
        try:
            answer = await client.post("/chat", json=body, headers=self._key())
        except httpx.TimeoutException:
            return f"no answer within {self._patience.answer:g} s"
        except (httpx.HTTPError, OSError) as error:
            return str(error) or type(error).__name__
        if answer.status_code != 200:
            return f"HTTP {answer.status_code}: {_said(answer)}"
        tokens = _json(answer).get("usage", {}).get("completion_tokens")
        return None if isinstance(tokens, int) and tokens >= 1 else "the answer has no token"

    async def _compared(self, client: httpx.AsyncClient) -> bool | None:
        """Returns what it says of itself; one that is not the model that was judged ends before it listens."""
        try:
            answer = await client.get("/promptz")
        except (httpx.HTTPError, OSError):
            return None
        return parity.passed_in(_json(answer))

    def _key(self) -> dict[str, str]:
        if self.launch.keys_file is None:
            return {}
        lines = (line.strip() for line in self.launch.keys_file.read_text(encoding="utf-8").splitlines())
        keys = [line for line in lines if line and not line.startswith("#")]
        return {"Authorization": f"Bearer {keys[0]}"} if keys else {}


async def _look(client: httpx.AsyncClient, path: str) -> tuple[int | None, str]:
    """Returns the status, None without an answer, and the reason in words."""
    try:
        answer = await client.get(path)
    except httpx.TimeoutException:
        return None, "it does not answer"
    except httpx.HTTPError as error:
        return None, str(error) or type(error).__name__
    return answer.status_code, _said(answer)


def _said(answer: httpx.Response) -> str:
    document = _json(answer)
    error: Any = document.get("error")
    if isinstance(error, dict):
        return str(error.get("message"))
    return str(document.get("reason") or answer.text[:200])


def _json(answer: httpx.Response) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        document = answer.json()
        if isinstance(document, dict):
            return document
    return {}
