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

from slipway_core.protocol import parity
from slipway_core.resources.status import Progress, fit
from slipway_operator.kube.errors import reason_of
from slipway_operator.kube.manifest import Manifest, at, items
from slipway_operator.settings import Settings

PROGRESS_PORT = 9400
_PROGRESS_SECONDS = 1.0
_PROMPT_SECONDS = 150.0
"""The server gives its engine two minutes for the first answer and says then what was wrong."""
_CONNECT_SECONDS = 5.0
"""For a connection to a pod: one that takes longer is a matter of the network, not of the server."""
_PROMPTS = 3
_PROMPT_PAUSE = 6.0
"""Between two prompts: a server tells a failure for 5 s before it tries again."""
_AT_ONCE = 32
_BODY = 1 << 16
"""Bytes of an answer that are read: a pod's words are not ours."""
_WHY = 500
"""Characters of why a server does not know what it is that are told on."""
_KEPT = 64
"""Answers that nobody came for."""
_SERVING_PORT = 8000


@dataclass(frozen=True)
class _Answer:
    """What a prompt came to."""

    good: bool | None
    """None where the server said nothing: whether the model answers is not known."""
    why: str = ""
    """Why it is not good; of a good one why the server does not know the following."""
    parity: bool | None = None
    """Whether the server found itself to be the model that was judged; None where it does not know."""


@dataclass(frozen=True)
class _Prompt:
    """A prompt to a pod that is under way, or whose answer nobody has come for yet."""

    answer: asyncio.Task[_Answer]
    unheard: str = ""
    """Why the prompt before it got no answer."""


@dataclass
class Pods:
    """Belongs to one event loop."""

    settings: Settings
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _prompts: dict[str, _Prompt] = field(default_factory=dict[str, _Prompt])
    """By the uid of the pod."""

    async def progress(self, pod: Manifest) -> Progress | None:
        """Returns what rank 0 says of its step; None when it says nothing within a second, or nothing that we know."""
        try:
            async with self._places:
                status, body = await self._get(pod, PROGRESS_PORT, "/progress", _PROGRESS_SECONDS)
        except (aiohttp.ClientError, TimeoutError, OSError, _NoAddress):
            return None
        return _progress(body) if status == 200 else None

    async def answers(self, pod: Manifest) -> tuple[bool | None, str, bool | None]:
        """Returns whether the server of a pod answered a prompt, why not, and whether it is the model that was judged,
        as far as it knows; of one that answered and does not know, why it does not. None while it has not been told
        yet, or cannot be reached: it is asked until it says something, for a network that is down is no fault of the
        model.

        The first call asks; the call that is told the answer forgets it.
        """
        uid = str(pod["metadata"].get("uid", ""))
        prompt = self._prompts.get(uid)
        if prompt is None:
            self._let_go()
            self._prompts[uid] = _Prompt(asyncio.create_task(self._ask(pod)))
            return None, "", None
        if not prompt.answer.done():
            return None, prompt.unheard, None
        answer = prompt.answer.result()
        if answer.good is None:
            self._prompts[uid] = _Prompt(asyncio.create_task(self._ask(pod)), answer.why)
        else:
            del self._prompts[uid]
        return answer.good, answer.why, answer.parity

    def _let_go(self) -> None:
        done = [uid for uid, prompt in self._prompts.items() if prompt.answer.done()]
        for uid in done[: max(0, len(done) - _KEPT)]:
            del self._prompts[uid]

    async def _ask(self, pod: Manifest) -> _Answer:
        """Asks until an answer is good, or was not three times in a row; one that is not heard ends it."""
        answer = _Answer(None)
        for number in range(_PROMPTS):
            if number:
                await self.sleep(_PROMPT_PAUSE)
            answer = await self._ask_once(pod)
            if answer.good is not False:
                return answer
        return _Answer(False, f"it was asked a prompt: {answer.why}")

    async def _ask_once(self, pod: Manifest) -> _Answer:
        name = pod["metadata"].get("name", "")
        unreached = f"the operator does not reach the pod {name}"
        try:
            status, body = await self._get(pod, serving_port(pod), "/promptz", _PROMPT_SECONDS)
        except (aiohttp.ClientError, _NoAddress) as error:  # A connection that takes too long is one of these.
            return _Answer(None, f"{unreached}: {reason_of(error)}")
        except TimeoutError:
            return _Answer(False, f"no answer of the pod {name} within {_PROMPT_SECONDS:g} s")
        except OSError as error:
            return _Answer(None, f"{unreached}: {reason_of(error)}")
        said = _object(body)
        if status == 200 and said.get("ok") is True:
            return _Answer(True, fit(parity.unknown_in(said), _WHY), parity.passed_in(said))
        return _Answer(False, str(said.get("reason") or f"the pod {name} says HTTP {status}"))

    async def _get(self, pod: Manifest, port: int, path: str, seconds: float) -> tuple[int, bytes]:
        metadata, ip = pod["metadata"], at(pod, "status").get("podIP")
        if not ip and "{ip}" in self.settings.pod_url:
            raise _NoAddress("it has no address yet")
        host = f"[{ip}]" if ":" in str(ip) else ip
        base = self.settings.pod_url.format(
            namespace=metadata.get("namespace"), pod=metadata.get("name"), ip=host, port=port
        )
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        # A session for each question: a pod is asked seldom, and a kept connection to one that ended is of no use.
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
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
