"""The operator's log: JSON lines in a pod, for a program to read; plain lines in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Generator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

from slipway_operator.cache.key import Key

_log = logging.getLogger(__name__)

_ABOUT: Final[ContextVar[Key | None]] = ContextVar("slipway_about", default=None)
"""The object that the pass of this task is over. Python wants context variables made once, at the top of a module."""

_FIELDS: Final = {"TrainingRun": "run", "ModelEndpoint": "endpoint"}


@contextlib.contextmanager
def about(key: Key) -> Generator[None]:
    """Puts an object's name and namespace on every line that is logged within."""
    token = _ABOUT.set(key)
    try:
        yield
    finally:
        _ABOUT.reset(token)


def configure(form: Literal["json", "text"]) -> None:
    """Sends the log to stderr. Kopf's own is left out below warnings: it tells of each event that it hands on."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("kopf", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def of_event_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what a loop cannot give to anybody, as `set_exception_handler` wants it.

    A watch that is cancelled while Kopf takes an event from it stays open, and the loop closes it as it ends: the parts
    of it side by side, so that the outer one may find the inner one closed already, and fails. Nothing is lost then.
    """
    if "asyncgen" in context:
        _log.debug("%s", context["message"], exc_info=context.get("exception"))
    else:
        loop.default_exception_handler(context)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        key = _ABOUT.get()
        if key is not None:
            line["namespace"] = key.namespace
            if key.kind in _FIELDS:
                line[_FIELDS[key.kind]] = key.name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
