"""Runs the service as an AWS Lambda function: `orchestrator.lambda_handler.handler`.

It is invoked with HTTP requests, with batches of an SQS queue, or to sweep. The app listens on a
Unix socket inside the function and each HTTP invocation is one request to it, so that a sender gets
the routes, statuses and headers of `orchestrator serve`. The process has one event loop and one set
of clients; between invocations Lambda freezes both.

begin ──────────────────────────────► deadline ──────────► cut-off ────► killed
        the work, at most                hand the run back    send the
        intake.deadline_s                                     answer
"""

import asyncio
import io
import json
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import attrs
import structlog
from aiohttp import web
from yarl import URL

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.emf import EmfMetrics
from orchestrator.app import create_app
from orchestrator.core.dispatch.orchestrator import waiting
from orchestrator.core.errors import RegistrationError
from orchestrator.core.events.event_types import RECONCILE
from orchestrator.core.metrics import NO_METRICS
from orchestrator.core.queue.inbox import Message
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.intake.app_keys import OWN_ORCHESTRATOR, WORKLOAD
from orchestrator.intake.aws_lambda import (
    is_sqs_batch,
    read_invoked_type,
    read_messages,
    write_failures,
)
from orchestrator.intake.connections import ConnectionLimits, serve_connections
from orchestrator.intake.lambda_http import (
    BadRequestError,
    HTTPAnswer,
    HTTPRequest,
    find_format,
    find_path,
    read_request,
    write_answer,
)
from orchestrator.intake.problems import DEFAULT_RETRY_AFTER_S, problem
from orchestrator.intake.queue_worker import MESSAGES, handle_batch
from orchestrator.intake.refusal_log import REFUSALS, Refusal, read_trace
from orchestrator.logs import configure_logs
from orchestrator.settings import Http, SettingsError, load_settings

_ANY_HOST = URL("http://orchestrator")
#: Time (seconds) reserved to hand runs back and answer; if less than three times as much is left,
#: a third of that.
_TO_HAND_BACK_S = 3.0
#: The limit of a load balancer; aiohttp's default is below that of API Gateway, too.
_LONGEST_LINE = 65_536

log = structlog.get_logger("orchestrator.lambda_handler")


class NotStartedError(Exception):
    """The service can't start; the message says why. The next invocation tries again."""


class SweepFailedError(Exception):
    """The sweep failed: the ledger or a builder can't be reached."""


@attrs.frozen
class _TimeLeft:
    """How long (seconds) an invocation may work, and then take to hand its runs back."""

    deadline_s: float
    hand_back_s: float

    @classmethod
    def of(cls, remaining_s: float) -> "_TimeLeft":
        to_hand_back_s = max(0.0, min(_TO_HAND_BACK_S, remaining_s / 3))
        # The last third is reserved for the answer.
        return cls(max(0.0, remaining_s - to_hand_back_s), to_hand_back_s * 2 / 3)


class LambdaService:
    """The running app, and the HTTP client that sends requests to it.

    The `metrics` of an invocation are written to standard output at its end.
    """

    def __init__(self, app: web.Application, metrics: EmfMetrics | None = None) -> None:
        self._metrics = metrics
        self._clock = SystemClock()
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="orchestrator-")
        self._app = app
        self._runner = web.AppRunner(
            app,
            access_log=None,
            # A request that was cut off must not continue in the next invocation.
            handler_cancellation=True,
        )
        self._stack = AsyncExitStack()
        self._client: aiohttp.ClientSession | None = None
        try:
            self._loop.run_until_complete(self._open())
        except BaseException:
            self.close()
            raise

    def handle(self, event: Any, *, remaining_s: float) -> dict[str, Any]:
        """Answer one invocation, which Lambda ends after `remaining_s`.

        Raises:
            NotAnHTTPEventError: the kind of invocation is not supported.
            SweepFailedError: the sweep failed; Lambda may retry it.
        """
        try:
            return self._handle(event, _TimeLeft.of(remaining_s))
        finally:
            # Lambda now freezes the process, perhaps forever.
            self._app[REFUSALS].write_held()
            self._write_metrics()

    def _write_metrics(self) -> None:
        if self._metrics is None:
            return
        for line in self._metrics.take_lines(self._clock.now()):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def _handle(self, event: Any, time: "_TimeLeft") -> dict[str, Any]:
        if is_sqs_batch(event):
            return write_failures(self._handle_messages(read_messages(event), time))
        if (event_type := read_invoked_type(event)) and self._is_sweep(event_type):
            self._sweep(event, time)
            return {"success": True}
        written = find_format(event)
        try:
            request = read_request(event, written)
        except BadRequestError as error:
            path = find_path(event)
            self._refuse(HTTPStatus.BAD_REQUEST, error, str(error), request=path)
            refusal = problem(HTTPStatus.BAD_REQUEST, str(error), instance=path)
            return write_answer(_as_answer(refusal), written)
        self._app[WORKLOAD].shorten(time.deadline_s)
        asking = self._ask(request, timeout_s=time.deadline_s + time.hand_back_s)
        answer = self._loop.run_until_complete(asking)
        return write_answer(answer, written)

    def _is_sweep(self, event_type: str) -> bool:
        aliases = self._app[OWN_ORCHESTRATOR].aliases
        return aliases.get(event_type, event_type) == RECONCILE

    def _sweep(self, event: object, time: "_TimeLeft") -> None:
        """Sweep. Only a sweep may be invoked directly, without a queue: if one is lost, the next
        does its work."""
        message = Message(id="sweep", text=json.dumps(event), receipt="")
        if self._handle_messages([message], time):
            raise SweepFailedError("The sweep failed; the log says why.")

    def _handle_messages(self, messages: Sequence[Message], time: "_TimeLeft") -> list[str]:
        """Handle messages; returns the ids of those that must stay in the queue."""
        batch = handle_batch(
            messages,
            self._app[MESSAGES].handle,
            timeout_s=time.deadline_s,
            hand_back_s=time.hand_back_s,
        )
        with waiting(time.deadline_s):
            return self._loop.run_until_complete(batch)

    def close(self) -> None:
        """Close the app and the client. Never called on Lambda, only by tests."""
        if self._client is not None:
            self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()
        self._folder.cleanup()

    async def _open(self) -> None:
        path = str(Path(self._folder.name) / "http.sock")
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        serving = serve_connections(
            self._runner,
            listener,
            # The only client is this process's own: Lambda limits what reaches it.
            ConnectionLimits.of(Http()),
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        await self._stack.enter_async_context(serving)
        self._client = aiohttp.ClientSession(
            # Connections are not kept between invocations, which may be hours apart.
            connector=aiohttp.UnixConnector(path, force_close=True),
            # Cookies of one sender must not be sent for the next.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def _ask(self, request: HTTPRequest, *, timeout_s: float) -> HTTPAnswer:
        """The app's answer; a problem if it takes too long."""
        assert self._client is not None  # noqa: S101 - opened at the start
        query = f"?{request.query}" if request.query else ""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.request(
                    request.method,
                    URL(f"{_ANY_HOST}{request.path}{query}", encoded=True),
                    headers=request.headers,
                    data=io.BytesIO(request.body) if request.body else None,
                    allow_redirects=False,
                ) as answer,
            ):
                return HTTPAnswer(
                    status=answer.status,
                    headers=list(answer.headers.items()),
                    body=await answer.read(),
                )
        except TimeoutError as error:
            reason = (
                f"There was no answer after {timeout_s:.3g} s, and the function is about to time "
                "out: send the request again."
            )
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                error,
                reason,
                request=f"{request.method} {request.path}",
                trace=read_trace(request.headers),
            )
            return _as_answer(
                problem(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    reason,
                    instance=request.path,
                    headers={"Retry-After": f"{DEFAULT_RETRY_AFTER_S:.0f}"},
                )
            )

    def _refuse(self, status: int, error: Exception, reason: str, **about: str | None) -> None:
        """Log a refusal of a request that didn't reach the app, or that timed out."""
        kind = type(error).__name__
        self._app[REFUSALS].add(
            Refusal(what="request", status=status, error=kind, reason=reason, about=about)
        )


def _as_answer(response: web.Response) -> HTTPAnswer:
    assert isinstance(response.body, bytes)  # noqa: S101 - a problem's is
    return HTTPAnswer(
        status=response.status, headers=list(response.headers.items()), body=response.body
    )


_service: LambdaService | None = None


class Context(Protocol):
    """Lambda's context object of an invocation."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: Any, context: Context) -> dict[str, Any]:
    """The Lambda handler. The first invocation opens the service, from ORCHESTRATOR_CONFIG.

    Raises:
        NotStartedError: the service can't start.
        NotAnHTTPEventError: the kind of invocation is not supported.
        SweepFailedError: the sweep failed.
    """
    global _service  # kept between invocations
    if _service is None:
        _service = _start()
    remaining_s = context.get_remaining_time_in_millis() / 1000
    return _service.handle(event, remaining_s=remaining_s)


def _start() -> LambdaService:
    # Log lines of loading the settings must have the same format as the rest.
    configure_logs(level="info", layout="json", redact=SECRET_NAMES)
    try:
        settings = load_settings()
        configure_logs(
            level=settings.log.level,
            layout=settings.log.format,
            redact=settings.log.redact,
            is_final=True,
        )
        namespace = settings.telemetry.emf_namespace
        metrics = EmfMetrics(namespace) if namespace else None
        app = create_app(settings, hands_back=True, metrics=metrics or NO_METRICS)
        return LambdaService(app, metrics)
    except (SettingsError, RegistrationError) as error:
        log.error("the service can't start", reason=str(error))
        raise NotStartedError(f"The service can't start: {error}") from None
    except Exception as error:
        # A bug of the service or of the extension: log the traceback.
        log.error("the service can't start", exc_info=error)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise NotStartedError(f"The service can't start: {reason}") from None
