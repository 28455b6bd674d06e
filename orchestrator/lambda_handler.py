"""The service as an AWS Lambda function: `orchestrator.lambda_handler.handler`.

The app runs on a Unix socket inside the function and each invocation is one request to it,
so that a sender meets the very routes, statuses and headers of `orchestrator serve`. One
event loop and one set of clients serve the process for its life; between invocations
Lambda freezes both.
"""

import asyncio
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from orchestrator.app import create_app
from orchestrator.intake.aws_lambda import (
    HTTPAnswer,
    HTTPRequest,
    read_request,
    write_answer,
)
from orchestrator.logs import configure_logs
from orchestrator.settings import load_settings

_ANY_HOST = URL("http://orchestrator")


class LambdaService:
    """The running app, and the client that hands requests to it."""

    def __init__(self, app: web.Application) -> None:
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="orchestrator-")
        self._runner = web.AppRunner(app, access_log=None)
        self._client = self._loop.run_until_complete(self._open())

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one invocation."""
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


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """What Lambda calls. The first invocation opens the service, from ORCHESTRATOR_CONFIG."""
    global _service  # Lambda keeps the process, and with it this module
    if _service is None:
        settings = load_settings()
        configure_logs(
            level=settings.log.level, layout=settings.log.format, redact=settings.log.redact
        )
        _service = LambdaService(create_app(settings, hands_back=True))
    return _service.handle(event)
