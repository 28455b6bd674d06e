"""The service at a port, in an event loop of its own, for tests that Hypothesis calls."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from orchestrator import Extension, Settings, create_app
from orchestrator.testing import InMemoryBuilder

JSON = {"Content-Type": "application/json"}
Answered = tuple[int, Mapping[str, str], Any]


@attrs.frozen
class Server:
    """The service at `base`, and a client."""

    runner: asyncio.Runner
    http: ClientSession
    base: str

    def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] = JSON
    ) -> Answered:
        """Status, headers and JSON of the answer."""
        status, given, text = self.send_raw(method, path, body, headers)
        return status, given, json.loads(text)

    def send_raw(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and bytes of the answer."""
        return self.runner.run(self._send(method, path, body, headers))

    async def _send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        url = URL(f"{self.base}{path}", encoded=True)
        async with self.http.request(
            method, url, data=body or None, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, dict(answer.headers), await answer.read()


def app_of(settings: Settings) -> web.Application:
    return create_app(settings, extension=Extension(builders={"CODE_BUILD": InMemoryBuilder()}))


@contextmanager
def open_server(settings: Settings) -> Iterator[Server]:
    with asyncio.Runner() as runner:

        async def start() -> tuple[TestServer, ClientSession]:
            served = TestServer(app_of(settings), host="127.0.0.1")
            await served.start_server()
            return served, ClientSession()

        served, http = runner.run(start())
        yield Server(runner, http, str(served.make_url("/")).rstrip("/"))
        runner.run(http.close())
        runner.run(served.close())
