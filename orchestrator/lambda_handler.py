"""The service as an AWS Lambda function: `orchestrator.lambda_handler.handler`.

It is invoked with HTTP requests, or with batches of an SQS queue. The app runs on a Unix socket
inside the function and each HTTP invocation is one request to it, so that a sender meets the very
routes, statuses and headers of `orchestrator serve`. One event loop and one set of clients
serve the process for its life; between invocations Lambda freezes both.
"""

import asyncio
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from orchestrator.app import create_app
from orchestrator.intake.aws_lambda import (
    HTTPAnswer,
    HTTPRequest,
    is_sqs_batch,
    read_messages,
    read_request,
    write_answer,
    write_failures,
)
from orchestrator.intake.queue import MESSAGES, handle_batch
from orchestrator.logs import configure_logs
from orchestrator.settings import load_settings

_ANY_HOST = URL("http://orchestrator")
#: Handlers that are not done in time need so long (seconds) to hand their runs back.
_TO_HAND_BACK_S = 3.0


class LambdaService:
    """The running app, and the client that hands requests to it."""

    def __init__(self, app: web.Application) -> None:
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="orchestrator-")
        self._app = app
        self._runner = web.AppRunner(app, access_log=None)
        self._client = self._loop.run_until_complete(self._open())

    def handle(self, event: Mapping[str, Any], *, remaining_s: float) -> dict[str, Any]:
        """Answer one invocation, which ends in `remaining_s` at the latest."""
        if is_sqs_batch(event):
            batch = handle_batch(
                read_messages(event),
                self._app[MESSAGES].handle,
                timeout_s=max(0.0, remaining_s - _TO_HAND_BACK_S),
            )
            return write_failures(self._loop.run_until_complete(batch))
        request = read_request(event)
        return write_answer(self._loop.run_until_complete(self._ask(request)), request)

    def close(self) -> None:
        """End what was opened. Lambda never does; tests do."""
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()
        self._folder.cleanup()

    async def _open(self) -> aiohttp.ClientSession:
        socket = str(Path(self._folder.name) / "http.sock")
        await self._runner.setup()
        await web.UnixSite(self._runner, socket).start()
        return aiohttp.ClientSession(
            # A connection must not outlive an invocation: the next one may be hours away.
            connector=aiohttp.UnixConnector(socket, force_close=True),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def _ask(self, request: HTTPRequest) -> HTTPAnswer:
        query = f"?{request.query}" if request.query else ""
        async with self._client.request(
            request.method,
            URL(f"{_ANY_HOST}{request.path}{query}", encoded=True),
            headers=request.headers,
            data=io.BytesIO(request.body) if request.body else None,
            allow_redirects=False,
        ) as answer:
            return HTTPAnswer(
                status=answer.status,
                headers=list(answer.headers.items()),
                body=await answer.read(),
            )


_service: LambdaService | None = None


class Context(Protocol):
    """What Lambda tells of an invocation."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What Lambda calls. The first invocation opens the service, from ORCHESTRATOR_CONFIG."""
    global _service  # Lambda keeps the process, and with it this module
    if _service is None:
        settings = load_settings()
        configure_logs(
            level=settings.log.level, layout=settings.log.format, redact=settings.log.redact
        )
        _service = LambdaService(create_app(settings, hands_back=True))
    remaining_s = context.get_remaining_time_in_millis() / 1000
    return _service.handle(event, remaining_s=remaining_s)
