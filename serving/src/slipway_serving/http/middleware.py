"""What stands in front of every route: the open list, access, limits, request ids and metrics.

A pure ASGI middleware: Starlette's base class would put a queue between a stream and its client, and hide from the
engine that the client left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from slipway_serving.http import body as request_body
from slipway_serving.http import request_bounds, routes, written_out
from slipway_serving.http.api_keys import bearer
from slipway_serving.http.bodies import Body
from slipway_serving.http.refusal import ClientLeft, Refusal, error_object
from slipway_serving.http.request_bounds import Bounds
from slipway_serving.http.routes import Route
from slipway_serving.http.server_parts import Server
from slipway_serving.settings import is_loopback

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

logger = logging.getLogger(__name__)

# What a client may name its request: short, and safe in a log line and a header.
_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_CLIENT_LEFT = 499


class SlipwayMiddleware:
    """The class that vLLM's `--middleware` names. It finds the server's parts where the launcher left them."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                server: Server = scope["app"].state.args.slipway
                await Exchange(self._app, server, scope, receive, send).run()
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "no WebSocket here"})
            case _:
                await self._app(scope, receive, send)


class Exchange:
    """One request and its answer."""

    def __init__(self, app: Any, server: Server, scope: Any, receive: Receive, send: Send) -> None:
        self._app = app
        self._server = server
        self._scope = scope
        self._receive = receive
        self._send_on = send
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._route: Route | None = routes.find(scope["method"], scope["path"])
        self._id = self._request_id()
        self._started = time.monotonic()
        self._content: bytes | None = None
        self._code: int | None = None
        self._streams = False
        self._streamed = False

    async def run(self) -> None:
        try:
            await self._serve()
        except Refusal as refusal:
            self._server.metrics.rejected.labels(refusal.reason).inc()
            await self._refuse(refusal)
        except ClientLeft:
            self._code = _CLIENT_LEFT
        except asyncio.CancelledError:
            self._code = _CLIENT_LEFT
            raise
        except Exception:
            if self._code is not None:
                raise  # The answer has begun: all that is left to say is that it breaks off.
            refusal = self._why_failed()
            self._server.metrics.rejected.labels(refusal.reason).inc()
            await self._refuse(refusal)
        finally:
            self._record()

    async def _serve(self) -> None:
        self._check_host()
        route = self._known_route()
        client = self._client(route)
        if route.generates:
            self._server.admission.check(client)
        if route.method != "POST":
            return await self._app(self._scope, self._receive, self._send)
        with self._server.bodies.one() as body:
            places, receive = await self._read_body(route, body)
            if route.generates:
                await self._generate(receive, client, places)
            else:
                await self._app(self._scope, receive, self._send)

    # --- access ------------------------------------------------------------------------------------------------

    def _check_host(self) -> None:
        """On an anonymous local server, a web page elsewhere must not reach the model through the user's browser.

        The Host header stops a name that was rebound to 127.0.0.1; Origin stops a form or a fetch of another site.
        """
        if not self._server.settings.local_only:
            return
        host = self._headers.get("host", "")
        if not is_loopback(_without_port(host)):
            message = (
                f"The Host header is {host!r}; this server answers without a key and so only as localhost or 127.0.0.1."
            )
            raise Refusal(403, "host", message)
        origin = self._headers.get("origin")
        if origin is not None and not is_loopback(_without_port(origin.partition("://")[2])):
            message = (
                f"The request comes from the web page {origin!r}; start the server with --api-keys-file to allow it."
            )
            raise Refusal(403, "origin", message)

    def _known_route(self) -> Route:
        if self._route is not None:
            return self._route
        path = self._scope["path"]
        if allowed := routes.methods(path):
            message = f"{self._scope['method']} is not a method of {path}; use {' or '.join(allowed)}."
            raise Refusal(405, "method", message, headers={"Allow": ", ".join(allowed)})
        raise Refusal(404, "unknown_path", f"There is no {path} here.")

    def _client(self, route: Route) -> str:
        """Returns who asks: the owner of a key, else an address. Raises Refusal (401) without a valid key."""
        keys = self._server.keys
        if not route.needs_key or keys is None:
            return str((self._scope.get("client") or ("",))[0])
        given = bearer(self._headers.get("authorization"))
        if given is None and route.key_header:
            given = self._headers.get(route.key_header)
        if (owner := keys.owner(given)) is not None:
            return owner
        also = f" or '{route.key_header}: KEY'" if route.key_header else ""
        message = f"A valid key is needed: send the header 'Authorization: Bearer KEY'{also}."
        raise Refusal(401, "key", message, headers={"WWW-Authenticate": "Bearer"})

    # --- generation --------------------------------------------------------------------------------------------

    async def _read_body(self, route: Route, body: Body) -> tuple[int, Receive]:
        """Returns how many answers the request asks for, and what gives its body to the application."""
        server = self._server
        limits = server.settings.limits
        content = await request_body.read(self._receive, self._headers, server.bodies, body, limits)
        wrong_field = 422 if route.label == "/chat" else 400
        bounds = Bounds(limits.max_new_tokens, server.admission.max_concurrent, server.context, server.reads_calls)
        places = request_bounds.check(content, bounds, wrong_field)
        if server.refused_tokens is not None and route.converses:
            written_out.check(content, server.refused_tokens, 400)
        self._content = content
        return places, request_body.replay(content, self._receive)

    async def _generate(self, receive: Receive, client: str, places: int) -> None:
        seconds = self._server.settings.limits.request_timeout
        place = self._server.admission.place(self._gone, client, places)
        try:
            async with asyncio.timeout(seconds) as deadline, place:
                await self._app(self._scope, receive, self._send)
        except TimeoutError:
            if not deadline.expired():
                raise
            await self._time_out(seconds)

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _time_out(self, seconds: float | None) -> None:
        message = f"The answer took longer than this server's limit of {seconds:g} s."
        if self._code is None:
            raise Refusal(504, "timeout", message)
        # The status is sent: a stream can still say what happened, anything else can only end.
        self._server.metrics.rejected.labels("timeout").inc()
        if self._streams:
            event = f"data: {json.dumps(error_object(504, message))}\n\n".encode()
            await self._send_on({"type": "http.response.body", "body": event, "more_body": False})

    def _why_failed(self) -> Refusal:
        """Tells a request that the application could not take from a failure of the server's own."""
        if self._content is not None and (problem := self._server.request_problem(self._label, self._content)):
            field, why = problem
            return Refusal(400, "wrong_field", f"{field or 'The body'}: {why}.", param=field)
        logger.exception("Request %s of %s failed.", self._id, self._label)
        return Refusal(500, "failed", f"The server failed; its log has the reason under {self._id}.")

    # --- answers -----------------------------------------------------------------------------------------------

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._code = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
            if self._server.linger.under_way:
                # The server closes the connection after it, and the client's next one goes to another pod.
                headers.append((b"connection", b"close"))
            self._streams = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
            )
            message = {**message, "headers": headers}
        elif self._streams and not self._streamed and message.get("body"):
            self._streamed = True
            self._server.metrics.first_token.labels(self._label).observe(time.monotonic() - self._started)
        await self._send_on(message)

    async def _refuse(self, refusal: Refusal) -> None:
        body = refusal.body()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    def _record(self) -> None:
        code = self._code if self._code is not None else 500
        self._server.metrics.requests.labels(self._label, str(code)).inc()
        if self._route is not None and self._route.generates and code == 200:
            self._server.metrics.duration.labels(self._label).observe(time.monotonic() - self._started)

    @property
    def _label(self) -> str:
        return self._route.label if self._route is not None else "other"

    def _request_id(self) -> str:
        """The client's own id if it is one that can be logged, else a new one. vLLM reads it from the header."""
        given = self._headers.get("x-request-id", "")
        if _REQUEST_ID.fullmatch(given):
            return given
        made = uuid.uuid4().hex
        others = [(name, value) for name, value in self._scope["headers"] if name != b"x-request-id"]
        self._scope["headers"] = [*others, (b"x-request-id", made.encode())]
        return made


def _without_port(authority: str) -> str:
    host = authority.partition("]")[0] + "]" if authority.startswith("[") else authority.partition(":")[0]
    return host
