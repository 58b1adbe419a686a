"""Slipway's routes, as vLLM's plugin of endpoints: `/chat`, `/readyz`, `/livez`, `/promptz` and the chat page."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from importlib import resources
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.datastructures import State

from slipway_core.protocol.parity import Outcome
from slipway_serving.engine.probe import EngineProbe
from slipway_serving.handlers import chat
from slipway_serving.handlers.first_prompt import PROMPT, FirstPrompt
from slipway_serving.http.refusal import Refusal, error_object
from slipway_serving.http.server_parts import Server

# The page runs its own script and style and talks to its own server, and nothing else.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class SlipwayEndpoints:
    """What `vllm.endpoint_plugins` asks for."""

    name = "slipway"
    required_tasks: ClassVar[tuple[str, ...]] = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        page = resources.files("slipway_serving.handlers").joinpath("page.html").read_text(encoding="utf-8")
        headers = {"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        server: Server = app.state.args.slipway

        async def chat_page() -> HTMLResponse:
            return HTMLResponse(page, headers=headers)

        async def readyz(request: Request) -> JSONResponse:
            if server.linger.under_way or server.admission.draining:
                return _state(False, "draining")
            ready = await request.app.state.slipway_probe.answers()
            return _state(ready, None if ready else "the engine does not answer within 1 s")

        async def livez(request: Request) -> JSONResponse:
            alive = await request.app.state.slipway_probe.alive()
            return _state(alive, None if alive else "the engine is dead, or has not answered for 60 s")

        async def promptz(request: Request) -> JSONResponse:
            problem = await request.app.state.slipway_first_prompt.problem()
            parity: Outcome = request.app.state.slipway_parity
            # Without a key nobody is told where it differs, or what was asked; that nothing was compared is no secret,
            # and the server's log is gone by the time that somebody asks why its version failed.
            told = {"pass": parity.passed, "median": parity.median}
            if parity.passed is None:
                told["unknown"] = parity.reason
            return _state(problem is None, problem, parity=told)

        async def post_chat(request: Request) -> Response:
            return await _answer(request, server)

        app.add_api_route("/", chat_page, methods=["GET"], include_in_schema=False)
        app.add_api_route("/readyz", readyz, methods=["GET"])
        app.add_api_route("/livez", livez, methods=["GET"])
        app.add_api_route("/promptz", promptz, methods=["GET"])
        app.add_api_route("/chat", post_chat, methods=["POST"])

    async def init_state(self, engine_client: Any, state: State, args: Namespace) -> None:
        state.slipway_probe = EngineProbe(engine_client.get_weight_version)
        state.slipway_first_prompt = FirstPrompt(lambda: _new_tokens(state, args.slipway))


def _state(good: bool, reason: str | None, **more: Any) -> JSONResponse:
    return JSONResponse({"ok": good, "reason": reason, **more}, status_code=200 if good else 503)


async def _answer(request: Request, server: Server) -> Response:
    try:
        asked = chat.parse(await request.body())
    except Refusal as refusal:
        return JSONResponse(error_object(refusal.status, refusal.message, refusal.param), status_code=refusal.status)
    return await _complete(asked, raw_request=request, server=server)


async def _complete(asked: chat.ChatRequest, raw_request: Request, server: Server) -> Response:
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse
    from vllm.entrypoints.serve.utils.api_utils import with_cancellation

    serving = raw_request.app.state.openai_serving_chat

    # vLLM's own guard: a client that leaves cancels the call, and so aborts its generation.
    @with_cancellation
    async def ask(completion: Any, raw_request: Request) -> Any:
        return await serving.create_chat_completion(completion, raw_request)

    answer = await ask(_completion(asked, server), raw_request=raw_request)
    if answer is None:  # nobody is there to read it
        return Response(status_code=499)
    if isinstance(answer, ErrorResponse):
        error = answer.error
        message, field = chat.in_our_words(error.message, error.param)
        return JSONResponse(error_object(error.code, message, field), status_code=error.code)
    if asked.stream:
        return StreamingResponse(
            chat.events(answer), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
    return JSONResponse(chat.response(answer.model_dump()))


def _completion(asked: chat.ChatRequest, server: Server) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    limit = min(server.settings.limits.max_new_tokens, server.context)
    arguments = chat.completion_arguments(asked, server.settings.served_name, limit)
    return ChatCompletionRequest(**arguments)


async def _new_tokens(state: State, server: Server) -> int:
    """Answers the first prompt as /chat would, in a place like any other request. Returns the number of new tokens."""
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse

    async with server.admission.place(_never):
        answer = await state.openai_serving_chat.create_chat_completion(_completion(PROMPT, server))
    if isinstance(answer, ErrorResponse):
        raise Refusal(answer.error.code, "engine", answer.error.message)
    return chat.response(answer.model_dump())["usage"]["completion_tokens"]


async def _never() -> None:
    """The first prompt's client never leaves."""
    await asyncio.Event().wait()
