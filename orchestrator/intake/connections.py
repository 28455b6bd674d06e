"""Limits what connections may cost before a request is authenticated: time, number, bytes.

    accepted ──► head ──► body ──► handler ──► answer ──► idle ──► head …
                 └──────── the client is waited for, except in the handler ────────┘

A connection whose client takes too long is closed. If there are too many, the one is closed that
has been waited for the longest, first among those that have never sent a complete request: a new
client, such as a health check, is always let in.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from socket import socket
from typing import Any, cast

import attrs
import structlog
from aiohttp import hdrs, http_exceptions, web

from orchestrator.core.urls import encoded_path
from orchestrator.intake.browsers import SECURITY_HEADERS
from orchestrator.intake.problems import problem
from orchestrator.intake.refusal_log import REFUSALS, Refusal, RefusalLog
from orchestrator.settings import Http

#: How often (seconds) connections are checked.
_EVERY_S = 1.0
#: How long (seconds) the rest of a refused request's body is read for: closing a socket that has
#: unread bytes resets the connection, and its client may lose the answer.
_DRAIN_S = 2.0
#: Connections accepted at once, before any of them can be counted.
_ACCEPTED_AT_ONCE = 16
_BACKLOG = 128

_MALFORMED: tuple[tuple[type[Exception], str], ...] = (
    (http_exceptions.LineTooLong, "The request line or a header is too long: send a shorter one."),
    (http_exceptions.InvalidURLError, "The request's target is not a valid URL."),
    (http_exceptions.InvalidHeader, "A header is malformed."),
    (http_exceptions.BadStatusLine, "The request line is malformed: this port speaks HTTP/1.1."),
    (Exception, "The request is not valid HTTP/1.1."),
)

log = structlog.get_logger("orchestrator.http")


@attrs.frozen(kw_only=True)
class ConnectionLimits:
    """The limits of one process: how many connections, how long (seconds) each may take to send
    a request's head and to stay idle, and how many bytes of an unread body are read."""

    most: int
    receive_s: float
    idle_s: float
    drain_bytes: int

    @classmethod
    def of(cls, settings: Http) -> "ConnectionLimits":
        return cls(
            most=settings.max_connections,
            receive_s=settings.receive_timeout_s,
            idle_s=settings.idle_timeout_s,
            drain_bytes=settings.max_body_bytes,
        )


CONNECTION_LIMITS: web.AppKey[ConnectionLimits] = web.AppKey("connection_limits", ConnectionLimits)


class Connection(web.RequestHandler):
    """One connection. Bodies are not decompressed here: `bodies.py` does so, after authentication.

    Errors before a request reaches the app are problems, too, and logged like other refusals.
    """

    __slots__ = ("_answering", "_connections", "_has_begun", "_request", "has_served", "since")

    def __init__(self, connections: "Connections", server: web.Server, **options: Any) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runners may set it
            keepalive_timeout=connections.limits.idle_s,
            lingering_time=0,
            **options,
        )
        self._connections = connections
        self._request: web.BaseRequest | None = None
        self._has_begun = False
        self._answering = False
        #: Whether it has sent a complete request.
        self.has_served = False
        #: Since when the client is waited for, by the loop's clock.
        self.since = connections.now()

    @property
    def waits_for_client(self) -> bool:
        """Whether the next step is the client's: to send, or to read the answer."""
        return self._request is None or self._answering or not self._request.content.is_eof()

    @property
    def is_overdue(self) -> bool:
        """Whether the head of a request isn't complete in time, or the answer isn't read."""
        waited_s = self._connections.now() - self.since
        if self._request is not None:
            return self._answering and waited_s > self._connections.limits.idle_s
        is_expected = self._has_begun or not self.has_served
        return is_expected and waited_s > self._connections.limits.receive_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._request is None and not self._has_begun:
            self._has_begun, self.since = True, self._connections.now()
        super().data_received(data)

    def begin(self, request: web.BaseRequest) -> None:
        """The head of a request is complete; its handler begins."""
        self._request, self.since = request, self._connections.now()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer, and read what is left of the request up to a limit."""
        if isinstance(resp, web.HTTPExpectationFailed):  # raised before the app's middlewares
            sentence = "The header Expect may only be 100-continue: send the request without it."
            resp = self._refuse(request, resp.status, resp, sentence)
        self._request, self._answering, self.since = request, True, self._connections.now()
        # aiohttp 3.14 makes the last trailer of a chunked body (RFC 9112, section 7.1.2) a header
        # of the connection's next request, which may be of another client of a proxy.
        if not request.content.is_eof() or hdrs.TRANSFER_ENCODING in request.headers:
            resp.force_close()
        resp, is_lost = await super().finish_response(request, resp, start_time)
        if not is_lost and not request.content.is_eof():
            await self._drain(request)
        self._request, self._answering, self._has_begun = None, False, False
        self.has_served, self.since = True, self._connections.now()
        return resp, is_lost

    async def _drain(self, request: web.BaseRequest) -> None:
        left = self._connections.limits.drain_bytes
        with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
            async with asyncio.timeout(_DRAIN_S):
                while left > 0 and not request.content.at_eof():
                    left -= len(await request.content.readany())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request, perhaps a credential
    ) -> web.StreamResponse:
        """The problem for what isn't HTTP, and for exceptions outside of the app."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed", path=request.path, exc_info=exc)
            sentence = "The request failed with an internal error; the log has the traceback."
        else:
            sentence = next(text for kind, text in _MALFORMED if isinstance(exc, kind))
        return self._refuse(request, status, exc, sentence)

    def _refuse(
        self, request: web.BaseRequest, status: int, error: BaseException | None, sentence: str
    ) -> web.Response:
        self._connections.refusals.add(
            Refusal(
                what="request",
                status=status,
                error=type(error).__name__,
                reason=sentence,
                about={"remote": request.remote},
            )
        )
        refusal = problem(
            status,
            sentence,
            instance=encoded_path(request.rel_url.path_safe),
            headers=SECURITY_HEADERS,
        )
        refusal.force_close()
        return refusal


class Connections:
    """The connections of one server: admits new ones, and closes those that take too long."""

    def __init__(self, limits: ConnectionLimits, refusals: RefusalLog) -> None:
        self.limits = attrs.evolve(limits, most=min(limits.most, _affordable()))
        self.refusals = refusals
        self._open: set[Connection] = set()
        self.now = asyncio.get_running_loop().time
        if self.limits.most < limits.most:
            log.warning(
                "fewer connections than http.max_connections: the limit of open files is too low",
                connections=self.limits.most,
            )

    def add(self, connection: Connection) -> None:
        """Count a new connection. If there are too many, close the one that keeps the service
        waiting the longest; this one, if all others are being handled."""
        self._open.add(connection)
        if len(self._open) > self.limits.most:
            waiting = [one for one in self._open if one.waits_for_client]
            others = [one for one in waiting if one is not connection]
            self._close(min(others or [connection], key=lambda one: (one.has_served, one.since)))

    def discard(self, connection: Connection) -> None:
        self._open.discard(connection)

    async def keep_closing(self) -> None:
        """Close the overdue ones, forever."""
        while True:
            await asyncio.sleep(_EVERY_S)
            for connection in [one for one in self._open if one.is_overdue]:
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.transport is not None:
            connection.transport.abort()


def _affordable() -> int:
    """Half of the process's open files: the other half is for requests to AWS."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, files // 2)


@asynccontextmanager
async def serve_connections(
    runner: web.AppRunner, listener: socket, limits: ConnectionLimits, **options: Any
) -> AsyncIterator[None]:
    """Serve the runner's app at a socket for the life of the context; `options` are those of
    `aiohttp.web.AppRunner` for its connections."""
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - it is set up
    connections = Connections(limits, runner.app[REFUSALS])
    server.request_handler = _begun(server.request_handler)
    accepting = await asyncio.get_running_loop().create_server(
        lambda: Connection(connections, server, **options),
        sock=listener,
        backlog=_ACCEPTED_AT_ONCE,
    )
    listener.listen(_BACKLOG)
    closing = asyncio.create_task(connections.keep_closing())
    try:
        yield
    finally:
        accepting.close()
        closing.cancel()
        await asyncio.wait({closing})


_Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _begun(handle: _Handle) -> _Handle:
    async def begin_and_handle(request: web.BaseRequest) -> web.StreamResponse:
        cast("Connection", request.protocol).begin(request)
        return await handle(request)

    return begin_and_handle
