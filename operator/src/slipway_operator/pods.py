"""HTTP to pods: the progress of rank 0, and a prompt to a candidate.

No pass waits long for a pod: progress has a second, and a prompt is asked beside the passes, which read its answer when
it is there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
from pydantic import ValidationError

from slipway_core.status import Progress
from slipway_operator.manifest import Manifest, at, items
from slipway_operator.settings import Settings

PROGRESS_PORT = 9400
_PROGRESS_SECONDS = 1.0
_PROMPT_SECONDS = 150.0
"""The server gives its engine two minutes for the first answer and says then what was wrong."""
_PROMPTS = 3
_PROMPT_PAUSE = 6.0
"""Between two prompts: a server tells a failure for 5 s before it tries again."""
_AT_ONCE = 32
_BODY = 1 << 16
"""Bytes of an answer that are read: a pod's words are not ours."""
_KEPT = 64
"""Answers that nobody came for."""
_SERVING_PORT = 8000


@dataclass
class Pods:
    """Belongs to one event loop."""

    settings: Settings
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _prompts: dict[str, asyncio.Task[str | None]] = field(default_factory=dict[str, asyncio.Task[str | None]])
    """By the uid of the pod."""

    async def progress(self, pod: Manifest) -> Progress | None:
        """Returns what rank 0 says of its step; None when it says nothing within a second, or nothing that we know."""
        try:
            async with self._places:
                status, body = await self._get(pod, PROGRESS_PORT, "/progress", _PROGRESS_SECONDS)
        except (aiohttp.ClientError, TimeoutError, OSError, _NoAddress):
            return None
        return _progress(body) if status == 200 else None

    async def answers(self, pod: Manifest) -> tuple[bool | None, str]:
        """Returns whether the server of a pod answered a prompt, and why not. None while it has not been told yet.

        The first call asks; the call that is told the answer forgets it.
        """
        uid = str(pod["metadata"].get("uid", ""))
        prompt = self._prompts.get(uid)
        if prompt is None:
            self._let_go()
            self._prompts[uid] = asyncio.create_task(self._prompt(pod))
            return None, ""
        if not prompt.done():
            return None, ""
        problem = self._prompts.pop(uid).result()
        return problem is None, problem or ""

    def _let_go(self) -> None:
        done = [uid for uid, prompt in self._prompts.items() if prompt.done()]
        for uid in done[: max(0, len(done) - _KEPT)]:
            del self._prompts[uid]

    async def _prompt(self, pod: Manifest) -> str | None:
        """Returns what was wrong with the answer; None when it was one."""
        problem = None
        for number in range(_PROMPTS):
            if number:
                await self.sleep(_PROMPT_PAUSE)
            problem = await self._prompt_once(pod)
            if problem is None:
                return None
        return f"it was asked a prompt: {problem}"

    async def _prompt_once(self, pod: Manifest) -> str | None:
        name = pod["metadata"].get("name", "")
        try:
            status, body = await self._get(pod, serving_port(pod), "/promptz", _PROMPT_SECONDS)
        except TimeoutError:
            return f"no answer of the pod {name} within {_PROMPT_SECONDS:g} s"
        except (aiohttp.ClientError, OSError, _NoAddress) as error:
            return f"the operator does not reach the pod {name}: {error or type(error).__name__}"
        said = _object(body)
        if status == 200 and said.get("ok") is True:
            return None
        return str(said.get("reason") or f"the pod {name} says HTTP {status}")

    async def _get(self, pod: Manifest, port: int, path: str, seconds: float) -> tuple[int, bytes]:
        metadata, ip = pod["metadata"], at(pod, "status").get("podIP")
        if not ip and "{ip}" in self.settings.pod_url:
            raise _NoAddress("it has no address yet")
        host = f"[{ip}]" if ":" in str(ip) else ip
        base = self.settings.pod_url.format(
            namespace=metadata.get("namespace"), pod=metadata.get("name"), ip=host, port=port
        )
        # A session for each question: a pod is asked seldom, and a kept connection to one that ended is of no use.
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
            session.get(f"{base}{path}", allow_redirects=False) as answer,
        ):
            try:
                return answer.status, await answer.content.readexactly(_BODY)
            except asyncio.IncompleteReadError as whole:
                return answer.status, whole.partial


class _NoAddress(Exception):
    """The pod cannot be asked yet."""


def serving_port(pod: Manifest) -> int:
    """Returns the port `http` of the pod's server, whatever the operator that made the pod called for."""
    for container in items(pod, "spec", "containers"):
        for port in items(container, "ports"):
            if port.get("name") == "http":
                return int(port["containerPort"])
    return _SERVING_PORT


def _progress(body: bytes) -> Progress | None:
    """An older or a newer trainer says more than we know; that is left out."""
    aliases = {info.alias or name for name, info in Progress.model_fields.items()}
    known = {name: value for name, value in _object(body).items() if name in aliases}
    if not known:
        return None
    try:
        return Progress.model_validate_json(json.dumps(known), by_alias=True, by_name=False)
    except ValidationError:
        return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        said: Any = json.loads(body)
    except ValueError:
        return {}
    return cast(dict[str, Any], said) if isinstance(said, dict) else {}
