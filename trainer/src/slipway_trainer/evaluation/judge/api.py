"""One question put to an OpenAI chat completions API, as often as it takes within bounds.

What comes back is bounded in time and in bytes, a redirect is not followed (it would take the key elsewhere), and what
the server says of an error is shown without the key.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from slipway_core.resources.judge import Judge
from slipway_trainer.evaluation.judge import questions
from slipway_trainer.evaluation.judge.questions import Question
from slipway_trainer.judge import words

MOST_BYTES = 1 << 20
"""Of a response."""
_AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may be another one soon."""
_FORBIDDEN = 403
_NEVER = frozenset({401, 402, _FORBIDDEN, 404, 405})
"""Those that no other question changes."""


@dataclass(frozen=True)
class Patience:
    """How long a question is tried."""

    tries: int = 5
    call_seconds: float = 120.0
    """For one request, from its first byte to the response's last."""
    first_pause: float = 1.0
    """Before the second try; each further pause is twice as long."""
    longest_pause: float = 60.0
    """Also of one that the server asks for by Retry-After."""


@dataclass(frozen=True)
class Completion:
    """What the server said."""

    text: str
    model: str | None = None
    fingerprint: str | None = None
    tokens: tuple[int, int] = (0, 0)
    """Of what was sent, and of the reply, as the server counts them."""


class NoReply(Exception):
    """There is no reply to one question, and why.

    Args:
        away: whether the server was not there, as it seems; else what was asked may be why, which holds what a model
            said.
    """

    def __init__(self, why: str, *, away: bool = False) -> None:
        super().__init__(why)
        self.away = away


class NoJudge(NoReply):
    """There will be none to any question."""


class _Later(NoReply):
    """There may be one soon."""

    def __init__(self, why: str, seconds: float | None = None) -> None:
        super().__init__(why)
        self.seconds = seconds


@dataclass(frozen=True)
class Form:
    """How a request is worded: servers differ in what they take, and say so."""

    without: frozenset[str] = frozenset()
    """Fields that this server refuses."""

    def body(self, judge: Judge, question: Question) -> dict[str, Any]:
        """Returns the request's body."""
        fields = {
            "temperature": 0,
            "seed": question.repeat,
            "max_tokens": judge.max_new_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": question.kind.lower(),
                    "strict": True,
                    "schema": questions.schema(question.kind, judge.scale),
                },
            },
        }
        messages = [{"role": "system", "content": question.system}, {"role": "user", "content": question.user}]
        kept = {name: value for name, value in fields.items() if name not in self.without}
        if "max_tokens" in self.without:
            kept["max_completion_tokens"] = judge.max_new_tokens
        return {"model": judge.model, "messages": messages, **kept}

    def milder(self, said: str) -> Form | None:
        """Returns what is tried after the server refused this with some words; None where nothing is left."""
        named = [one for one in _REFUSABLE if one not in self.without and one in said]
        if not named and "response_format" not in self.without:
            # Servers name it in many ways: json_schema, guided decoding, structured output.
            named = ["response_format"]
        return replace(self, without=self.without | set(named)) if named else None


_REFUSABLE = ("temperature", "seed", "max_tokens", "response_format")


@dataclass
class Api:
    """The API of one judge.

    Args:
        key: None where none is sent.
    """

    judge: Judge
    key: str | None
    client: httpx.AsyncClient
    patience: Patience = field(default_factory=Patience)
    form: Form = field(default_factory=Form)
    """The one that this server takes, as far as it is known."""
    requests: int = 0
    """That were sent."""

    async def ask(self, question: Question, wait: Callable[[float], Any] = asyncio.sleep) -> Completion:
        """Returns what the judge says. Raises NoReply with the reason when it says nothing, NoJudge when it will say
        nothing to any other question either."""
        pause = self.patience.first_pause
        for number in range(1, self.patience.tries + 1):
            try:
                return await self._in_some_form(question)
            except _Later as later:
                longest = self.patience.longest_pause
                asked = later.seconds
                if number == self.patience.tries or (asked is not None and asked > longest):
                    more = "" if asked is None else f"; it asks to be left alone for {asked:g} s"
                    raise NoReply(f"{later}, {number} times{more}", away=True) from None
                await wait(max(min(pause, longest), asked or 0.0))
                pause *= 2
        raise AssertionError("the last try ends above")

    async def _in_some_form(self, question: Question) -> Completion:
        """Puts a question in the form that the server takes."""
        form = self.form
        while True:
            status, headers, body = await self._post(form.body(self.judge, question))
            if status not in (400, 422):
                completion = self._completion(status, headers, body)
                self.form = form
                return completion
            milder = form.milder(body.decode("utf-8", errors="replace"))
            if milder is None:
                raise NoReply(self._told(status, headers, body))
            form = milder

    async def _post(self, document: Mapping[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        content = json.dumps(document).encode()
        self.requests += 1
        try:
            async with asyncio.timeout(self.patience.call_seconds):
                return await self._sent(content)
        except TimeoutError:
            raise _Later(f"{self._place}: no response within {self.patience.call_seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise _Later(self.without_key(f"{self._place}: {said}")) from None

    async def _sent(self, content: bytes) -> tuple[int, httpx.Headers, bytes]:
        # Not compressed: a small response could be a large one.
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        read = bytearray()
        async with self.client.stream("POST", self._url, content=content, headers=headers) as response:
            async for piece in response.aiter_raw():
                read += piece
                if len(read) > MOST_BYTES:
                    raise NoReply(f"{self._place}: the response is longer than {MOST_BYTES >> 20} MiB")
            return response.status_code, response.headers, bytes(read)

    def _completion(self, status: int, headers: httpx.Headers, body: bytes) -> Completion:
        told = self._told(status, headers, body)
        if status in _AGAIN or status >= 500:
            raise _Later(told, _retry_after(headers))
        if status in _NEVER or 300 <= status < 400:
            # Filters of what is said answer 403 too.
            raise NoJudge(told + self._hint(status), away=status != _FORBIDDEN)
        if status != 200:
            raise NoReply(told)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise _Later(f"{told}: that is no JSON") from None
        return self._read(document, told)

    def _read(self, document: Any, told: str) -> Completion:
        """Reads a response of the API."""
        try:
            choice = document["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
            finish = choice.get("finish_reason")
        except (TypeError, KeyError, IndexError, AttributeError):
            raise NoReply(f"{told}: that is no chat completion") from None
        if finish == "length":
            raise NoReply(self._cut(text))
        if not isinstance(text, str) or not text.strip():
            why = f": it refuses: {words.quoted(str(refusal), self.key)}" if refusal else ""
            raise NoReply(f"the judge's reply is empty{why}")
        usage = document.get("usage")
        return Completion(
            self.without_key(text),
            _word(document.get("model")),
            _word(document.get("system_fingerprint")),
            (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens")),
        )

    def _cut(self, text: Any) -> str:
        """Returns what is said of a reply that came to no end."""
        said = isinstance(text, str) and text.strip()
        end = f", and ends with {words.ending(text, self.key)!r}" if said else " before it said anything"
        return (
            f"the judge's reply was cut at {self.judge.max_new_tokens} tokens{end}. With more by "
            "evaluation.judge.maxNewTokens it may come to its end; a judge that repeats itself never does: ask another"
        )

    def _told(self, status: int, headers: httpx.Headers, body: bytes) -> str:
        """Returns what a response was, for people."""
        kind = headers.get("content-type", "").split(";")[0].strip()
        said = words.quoted(body.decode("utf-8", errors="replace"), self.key)
        place = f" to {headers.get('location', '').split('?')[0]}" if 300 <= status < 400 else ""
        return self.without_key(
            f"{self._place} answered {status}{place}{f' ({kind})' if kind else ''}{f': {said}' if said else ''}"
        )

    def _hint(self, status: int) -> str:
        if status in (401, 403):
            return ". Give evaluation.judge.credentials a key that may ask" + (
                " there" if self.key else "; none is sent"
            )
        if 300 <= status < 400:
            return ". Redirects are not followed with a key: set evaluation.judge.url to where it leads"
        if status in (404, 405):
            return ". See whether evaluation.judge.url is that of the API, and evaluation.judge.model one of its models"
        return ""

    def without_key(self, text: str) -> str:
        return words.without_key(text, self.key)

    @property
    def _url(self) -> str:
        return f"{self.judge.url.rstrip('/')}/chat/completions"

    @property
    def _place(self) -> str:
        return self.judge.url


def _retry_after(headers: httpx.Headers) -> float | None:
    """Returns the seconds that a response asks to wait: a number of them, or a date beside its own `Date`."""
    said = headers.get("retry-after")
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _word(value: Any) -> str | None:
    # Half of a surrogate pair, which JSON can write, stands in no file of ours.
    return value[:256].encode("utf-8", errors="replace").decode() if isinstance(value, str) else None


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0
