"""Two questions to a judge's server before anything is trained, that cost nothing: whether it takes the key, and
whether it knows the model.

The list of models tells the model. It tells nothing of the key where a server shows it to everybody, and some keys may
ask a model and not see the list. So a question without messages is put too: a server that does not take the key refuses
that one for it, and any other for want of messages.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from slipway_core.protocol.variables import JUDGE_KEY_VARIABLE
from slipway_core.resources.judge import Judge
from slipway_trainer.judge import client, words
from slipway_trainer.step.errors import BadConfig

SECONDS = 10.0
"""For both questions together: nothing is lost where a server is slow, it is asked again when the model is there."""
_MOST_BYTES = 8 << 20
"""Of an answer: lists of a thousand models have one."""
_REFUSED = (401, 403)
_TAKEN = (200, 400, 422)
"""Of a question without messages: the key was looked at before what is wrong with it."""
_NAMED = 5


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes


class _Silent(Exception):
    """The server says nothing, and why."""


def warning(judge: Judge, key: str | None, *, seconds: float = SECONDS) -> str | None:
    """Returns what may be amiss, and may be mended until the judge is asked; None where nothing is.

    Args:
        key: None where none is sent.
        seconds: for all of it.

    Raises BadConfig where the server refuses the key, or that none is sent, or no server can be asked from here.
    """
    return asyncio.run(_warning(judge, key, seconds))


async def _warning(judge: Judge, key: str | None, seconds: float) -> str | None:
    server = _Server(judge, key, time.monotonic() + seconds)
    try:
        listed = await server.models()
    except _Silent as error:
        return f"evaluation.judge.url: {error}. The judge has to answer once the model is trained: start it by then"
    asked = await server.empty_question()
    refusal = asked if asked is not None and asked.status in _REFUSED else None
    if listed.status in _REFUSED and not (asked is not None and asked.status in _TAKEN):
        refusal = refusal or listed
    if refusal is not None:
        raise BadConfig(server.refused(refusal))
    return server.of_list(listed)


@dataclass(frozen=True)
class _Server:
    judge: Judge
    key: str | None
    ends: float

    async def models(self) -> _Answer:
        """Raises _Silent."""
        return await self._answer("GET", "models")

    async def empty_question(self) -> _Answer | None:
        """Returns what a question without messages is answered; None where nothing is."""
        try:
            return await self._answer("POST", "chat/completions", {"model": self.judge.model, "max_tokens": 1})
        except _Silent:
            return None

    def refused(self, answer: _Answer) -> str:
        said = f"it answered {self._shown(answer)}"
        if self.key is None:
            return (
                f"evaluation.judge: {self.judge.url} asks for a key ({said}), and none is sent. Name the Secret with "
                f"{JUDGE_KEY_VARIABLE} in evaluation.judge.credentials; on one machine the environment has it"
            )
        return (
            f"evaluation.judge.credentials: {self.judge.url} refuses the key ({said}). Give {JUDGE_KEY_VARIABLE} one "
            f"that may ask there, in the environment; on a cluster in the Secret {self.judge.credentials}"
        )

    def of_list(self, answer: _Answer) -> str | None:
        """Returns what the list of models leaves to doubt."""
        if answer.status in _REFUSED:
            return None  # The key may ask, which is what it is for.
        names = _names(answer.body) if answer.status == 200 else None
        if names is None:
            return (
                f"evaluation.judge.url: whether {self.judge.model} is there is not known: {self.judge.url} answered "
                f"{self._shown(answer)} to the question for its models"
            )
        if self.judge.model in names:
            return None
        near = difflib.get_close_matches(self.judge.model, names, n=_NAMED) or sorted(names)[:_NAMED]
        has = f"it has {', '.join(words.quoted(one, self.key) for one in near)}" if near else "it has none"
        return (
            f"evaluation.judge.model: {self.judge.url} does not list {self.judge.model}: {has}. It has to be there "
            "once the model is trained"
        )

    def _shown(self, answer: _Answer) -> str:
        said = words.quoted(answer.body.decode("utf-8", errors="replace"), self.key)
        return f"{answer.status}{f': {said}' if said else ''}"

    async def _answer(self, method: str, path: str, document: Any = None) -> _Answer:
        try:
            # Of each request as a whole: a server may send a byte now and then, of what it says first too.
            async with asyncio.timeout(self.ends - time.monotonic()):
                return await self._read(method, f"{self.judge.url.rstrip('/')}/{path}", document)
        except TimeoutError:
            raise _Silent(f"{self.judge.url} does not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = words.quoted(str(error), self.key) or type(error).__name__
            raise _Silent(f"{self.judge.url} does not answer: {said}") from None

    async def _read(self, method: str, place: str, document: Any) -> _Answer:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        read = bytearray()
        async with (
            client.opened(self.judge) as server,
            server.stream(method, place, headers=headers, json=document) as response,
        ):
            async for piece in response.aiter_raw():
                read += piece
                if len(read) > _MOST_BYTES:
                    break
            return _Answer(response.status_code, bytes(read))


def _names(body: bytes) -> list[str] | None:
    """Returns the models of a list; None where it is none."""
    try:
        listed = json.loads(body)["data"]
        return [str(one["id"]) for one in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
