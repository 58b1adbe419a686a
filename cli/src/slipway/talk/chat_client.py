"""A client of `POST /chat`: a message goes out with what was said before, the answer comes in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

Turn = dict[str, str]
"""{"role": "user" | "assistant" | "system", "content": …}"""


class ChatError(Exception):
    """The server did not answer, or said no. The message says what and what to do."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Piece:
    text: str
    thought: bool = False
    """Whether it is what a model thinks before it answers."""


@dataclass
class Answer:
    """An answer as it comes in; iterate over it for its pieces."""

    pieces: Iterator[Piece]
    text: str = ""
    reasoning: str = ""
    """What was thought before it; no part of the conversation that goes on."""
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatClient:
    http: httpx.Client
    """Its base URL is the server's."""

    def ask(self, message: str, history: Iterable[Turn] = (), **settings: Any) -> Answer:
        """Asks and returns the answer, of which no piece has been read yet.

        Args:
            message: what the user says.
            history: the turns before it.
            settings: max_length (new tokens), temperature, top_p; the server's own where they are None.

        Iterating over `pieces` fills `text`, `reasoning`, `finish_reason` and `usage`, and raises ChatError.
        """
        body: dict[str, Any] = {"message": message, "history": list(history), "stream": True}
        body.update({name: value for name, value in settings.items() if value is not None})
        answer = Answer(iter(()))
        answer.pieces = self._pieces(body, answer)
        return answer

    def _pieces(self, body: dict[str, Any], answer: Answer) -> Iterator[Piece]:
        url = self.http.base_url
        try:
            with self.http.stream("POST", "chat", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise _refused(response)
                yield from read_events(response.iter_lines(), answer)
        except httpx.ConnectError:
            raise ChatError(f"nothing answers at {url}; `slipway status` shows what serves, and where") from None
        except httpx.TimeoutException:
            raise ChatError(f"{url} did not answer in time; `slipway status` shows whether it is well") from None
        except httpx.HTTPError as error:
            raise ChatError(f"the connection to {url} broke: {error}") from None


def read_events(lines: Iterable[str], answer: Answer) -> Iterator[Piece]:
    """Yields the pieces of a stream of server-sent events and fills the answer. Raises ChatError.

    A stream that ends before `[DONE]` was cut off: half an answer must not look like a whole one.
    """
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise ChatError(str(event["error"].get("message", "the server failed")))
        if thought := event.get("reasoning"):
            answer.reasoning += thought
            yield Piece(thought, thought=True)
        if piece := event.get("delta"):
            answer.text += piece
            yield Piece(piece)
        answer.finish_reason = event.get("finish_reason", answer.finish_reason)
        answer.usage = event.get("usage", answer.usage)
    raise ChatError("the answer was cut off: the server closed the connection")


def _refused(response: httpx.Response) -> ChatError:
    try:
        reason = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        reason = response.text.strip()[:200] or response.reason_phrase
    message = f"{response.status_code}: {reason}"
    if response.status_code == httpx.codes.UNAUTHORIZED:
        message += " Put a key into the environment variable SLIPWAY_API_KEY."
    if wait := response.headers.get("retry-after"):
        message += f" Try again in {wait} s."
    return ChatError(message, status=response.status_code)
