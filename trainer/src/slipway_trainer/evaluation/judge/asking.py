"""Many questions put to a judge, some at once, until all are answered, the time is over, or it is found silent."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from slipway_core.resources.api import seconds
from slipway_core.resources.judge import Judge
from slipway_trainer.evaluation.judge import replies
from slipway_trainer.evaluation.judge.api import Api, Completion, Form, NoJudge, NoReply, Patience
from slipway_trainer.evaluation.judge.kept_replies import KeptReplies, digest
from slipway_trainer.evaluation.judge.questions import LONGEST, Question
from slipway_trainer.evaluation.judge.replies import Unusable
from slipway_trainer.judge import client

SILENT_AFTER = 8
"""Questions in a row without a reply, each of them tried as often as `Patience` has it, after which no more are put."""
_END_SECONDS = 2.0
"""For requests under way to end in when nobody waits for them any more."""


@dataclass(frozen=True)
class Reply:
    """What became of a question."""

    question: Question
    points: float | None = None
    """From 0 to 1, as `replies.read` has it; None where there is no usable reply."""
    completion: Completion | None = None
    """What the judge said, usable or not."""
    trouble: str | None = None
    """Why there is no usable reply."""
    away: bool = False
    """Whether there is none since the server was not there, as it seems."""
    kept: bool = False
    """Whether an earlier attempt had it."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Asked:
    """What became of all of them."""

    replies: list[Reply]
    """In the order of the questions."""
    requests: int = 0
    """That were sent, tries included."""
    without: frozenset[str] = frozenset()
    """Fields of a request that the server refuses, and that were left out."""

    @property
    def nobody_there(self) -> bool:
        """Whether the server was there for not one question: then no question is why."""
        return bool(self.replies) and all(reply.away for reply in self.replies)

    def joined(self, other: Asked) -> Asked:
        """Returns both rounds as one."""
        return Asked(
            [*self.replies, *other.replies], self.requests + other.requests, self.without | other.without
        )  # fmt: skip


@dataclass
class _Round:
    """What the tasks of one round share; all of them run in one thread."""

    judge: Judge
    api: Api
    waiting: Iterator[tuple[int, Question]]
    ends: float
    done: Callable[[tuple[int, Reply]], None]
    silent: int = 0
    """Questions in a row without a reply."""
    away: bool = True
    """Whether the server was not there for any of them."""
    over: str | None = None
    """Why no more are put."""

    async def work(self) -> None:
        for place, question in self.waiting:
            self.done((place, await self._one(question)))

    async def _one(self, question: Question) -> Reply:
        left = self.ends - time.monotonic()
        if left <= 0 and self.over is None:
            self.over, self.away = f"evaluation.judge.timeout ({self.judge.timeout}) is over", True
        if self.over is not None:
            return Reply(question, trouble=f"it was not asked: {self.over}", away=self.away)
        started = time.monotonic()
        try:
            async with asyncio.timeout(left):
                completion = await self.api.ask(question)
        except TimeoutError:
            late = f"no reply before evaluation.judge.timeout ({self.judge.timeout}) was over"
            return Reply(question, trouble=late, away=True)
        except NoReply as error:
            self._failed(error)
            seconds = time.monotonic() - started
            return Reply(question, trouble=str(error), away=error.away, seconds=seconds)
        self.silent, self.away = 0, True
        return _read(question, completion, self.judge, seconds=time.monotonic() - started)

    def _failed(self, error: NoReply) -> None:
        self.silent += 1
        self.away = error.away and (self.away or isinstance(error, NoJudge))
        if self.over is None and (isinstance(error, NoJudge) or self.silent >= SILENT_AFTER):
            many = "" if isinstance(error, NoJudge) else f"{self.silent} questions in a row had no reply, the last: "
            self.over = f"{many}{error}"


def ask(
    judge: Judge,
    key: str | None,
    asked: Sequence[Question],
    kept: KeptReplies,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
    patience: Patience | None = None,
) -> Asked:
    """Puts questions to a judge. What has no usable reply says why; nothing is left out.

    The requests are made in a thread, so that a signal that ends the step is raised here and at once.

    Args:
        key: None where none is sent.
        kept: replies of earlier attempts, which are not asked for again, and where new ones go that can be used.
        advance: told how many are done, of how many.

    Raises BadConfig where the environment's proxy or certificates cannot be used.
    """
    found: dict[int, Reply] = {}
    open_: list[tuple[int, Question]] = []
    for place, question in enumerate(asked):
        before = kept.get(_digest(judge, question))
        if question.too_long:
            found[place] = Reply(question, trouble=f"the question is longer than {LONGEST:,} characters")
        elif before is not None and (reply := _read(question, before, judge, kept=True)).points is not None:
            found[place] = reply
        else:
            open_.append((place, question))
    session = _Session(judge, key, open_, patience or Patience())
    try:
        for place, reply in session.replies():
            found[place] = reply
            if reply.points is not None and reply.completion is not None:
                kept.keep(_digest(judge, reply.question), reply.completion)
            advance(len(found), len(asked))
    finally:
        session.end()
    return Asked([found[place] for place in range(len(asked))], session.requests, session.without)


@dataclass
class _Session:
    """The thread that speaks to the judge."""

    judge: Judge
    key: str | None
    questions: Sequence[tuple[int, Question]]
    patience: Patience
    requests: int = 0
    without: frozenset[str] = frozenset()
    _results: queue.SimpleQueue[tuple[int, Reply] | BaseException] = field(default_factory=queue.SimpleQueue)
    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[None] | None = None
    _thread: threading.Thread | None = None

    def replies(self) -> Iterator[tuple[int, Reply]]:
        if not self.questions:
            return
        # A daemon: a process that is told to end does not wait for a judge.
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self._thread.start()
        for _ in self.questions:
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
        self._thread.join(_END_SECONDS)

    def end(self) -> None:
        """Takes back what is under way."""
        loop, task, thread = self._loop, self._task, self._thread
        if thread is None or not thread.is_alive():
            return
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        thread.join(_END_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # Whoever waits for replies is to hear of it.
            self._results.put(error)

    async def _all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        limits = httpx.Limits(max_connections=self.judge.concurrency)
        # Bounded as a whole by `Patience`.
        async with client.opened(self.judge, limits=limits) as server:
            api = Api(self.judge, self.key, server, self.patience, Form())
            ends = time.monotonic() + seconds(self.judge.timeout)
            shared = _Round(self.judge, api, iter(self.questions), ends, self._results.put)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(min(self.judge.concurrency, len(self.questions))):
                        tasks.create_task(shared.work())
            finally:
                self.requests, self.without = api.requests, api.form.without


def _read(
    question: Question, completion: Completion, judge: Judge, *, kept: bool = False, seconds: float = 0.0
) -> Reply:
    try:
        points = replies.read(question, completion.text, judge.scale)
    except Unusable as error:
        why = f"its reply cannot be used: {error}"
        return Reply(question, completion=completion, trouble=why, kept=kept, seconds=seconds)
    return Reply(question, points, completion, kept=kept, seconds=seconds)


def _digest(judge: Judge, question: Question) -> str:
    return digest(judge.url, Form().body(judge, question))
