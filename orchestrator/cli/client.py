"""A client of the service over HTTP."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
from yarl import URL

from orchestrator.adapters.clock import RandomIds
from orchestrator.cli.tables import MOST_EMPTY_PAGES, describe_run
from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import read_event_id
from orchestrator.core.urls import path_segment, shown_url
from orchestrator.wire.codec import decode_json

#: The service's maximum for the `limit` of a page.
_LARGEST_PAGE = 100


class ServiceUnreachableError(Exception):
    """The service doesn't answer at its URL."""


class ServiceRefusedError(Exception):
    """The service answered with an error."""


@attrs.frozen
class Reply:
    """The answer to an event, and its run."""

    status: int
    headers: dict[str, str]
    answer: Any
    run: dict[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        return self.status < 300

    def as_json(self) -> dict[str, Any]:
        return {"status": self.status, "answer": self.answer, "run": self.run}

    def as_lines(self) -> list[str]:
        """The answer and its run as lines of text."""
        lines = [f"{self.status} {json.dumps(self.answer)}"]
        if "Retry-After" in self.headers:
            lines.append(f"retry in {self.headers['Retry-After']} s")
        if "Idempotent-Replayed" in self.headers:
            lines.append("handled by an earlier delivery")
        if self.run:
            lines += describe_run(self.run)
        return lines


class Client:
    """Calls the service; created by `open_client`."""

    def __init__(self, http: aiohttp.ClientSession, base: URL) -> None:
        self._http = http
        self._base = base

    async def send_event(self, event_type: str, text: bytes) -> Reply:
        """Post an event; a body without an id gets a new one, so that it counts as a new event.

        Raises:
            BadEvent: the text is not an event.
        """
        headers = {"Content-Type": "application/json"}
        if read_event_id(decode_json(text)) is None:
            headers["Idempotency-Key"] = RandomIds().fresh_id()
        address = self._at("events", event_type)
        return await self._post(address, text, headers)

    async def replay_run(self, run_id: str, *, force: bool) -> Reply:
        """Replay a run."""
        body = json.dumps({"force": force}).encode()
        headers = {"Content-Type": "application/json"}
        return await self._post(self._at("runs", run_id, "replay"), body, headers)

    async def cancel(self, tenant_id: str, *, reason: str | None, clean_up: bool) -> dict[str, Any]:
        """Cancel a tenant's operation: `stopped` names it; `ended` is False while its job still
        has to be stopped.

        Raises:
            ServiceRefusedError: no operation is under way, or it can't be stopped now.
        """
        address = self._at("tenants", tenant_id, "cancel")
        asked = {"reason": reason, "cleanUp": clean_up}
        sent = await self._ask("POST", address, json=asked)
        if not sent.succeeded:
            raise _refusal(sent)
        return {"ended": sent.status == 200, "stopped": sent.answer["stopped"]}

    async def _post(self, address: URL, text: bytes, headers: Mapping[str, str]) -> Reply:
        sent = await self._ask("POST", address, data=text, headers=headers)
        location = sent.headers.get("Location") or sent.answer.get("instance", "")
        # An `instance` with the path of the request itself is not a run.
        if "/runs/" in location and location != address.path:
            # The answer to the event counts, even if its run can't be read now.
            with contextlib.suppress(ServiceRefusedError):
                address = self._base.join(URL(location, encoded=True))
                sent = attrs.evolve(sent, run=await self._get(address))
        return sent

    async def get_run(self, run_id: str) -> dict[str, Any]:
        """One run. Raises ServiceRefusedError if it doesn't exist."""
        return await self._get(self._at("runs", run_id))

    async def get_runs(self, query: Mapping[str, str | None], *, limit: int) -> dict[str, Any]:
        """A page of up to `limit` runs. Raises ServiceRefusedError for an invalid query."""
        return await self._list("runs", query, limit)

    async def get_tenants(self, query: Mapping[str, str | None], *, limit: int) -> dict[str, Any]:
        """A page of up to `limit` tenants. Raises ServiceRefusedError for an invalid query."""
        return await self._list("tenants", query, limit)

    async def get_tenant(self, tenant_id: str) -> dict[str, Any]:
        """One tenant. Raises ServiceRefusedError if it doesn't exist."""
        return await self._get(self._at("tenants", tenant_id))

    def _at(self, *segments: str) -> URL:
        """A URL below the service's, which may have a path prefix."""
        path = "/".join(map(path_segment, segments))
        return URL(f"{str(self._base).rstrip('/')}/{path}", encoded=True)

    async def _list(
        self, items: str, query: Mapping[str, str | None], limit: int
    ) -> dict[str, Any]:
        """One page, read as several pages of the service, up to `MOST_EMPTY_PAGES` empty ones in a
        row."""
        asked = {name: value for name, value in query.items() if value is not None}
        found: list[Any] = []
        empty = 0
        while True:
            asked["limit"] = str(min(limit - len(found), _LARGEST_PAGE))
            page = await self._get(self._at(items).with_query(asked))
            found += page["items"]
            empty = 0 if page["items"] else empty + 1
            if page["cursor"] is None or len(found) >= limit or empty == MOST_EMPTY_PAGES:
                return {"items": found, "cursor": page["cursor"]}
            asked["cursor"] = page["cursor"]

    async def _get(self, address: URL) -> dict[str, Any]:
        sent = await self._ask("GET", address)
        if sent.status != 200:
            raise _refusal(sent)
        found: dict[str, Any] = sent.answer
        return found

    async def _ask(self, method: str, address: URL, **options: Any) -> Reply:
        """The answer; redirects are not followed, so that no other service gets the credentials.

        Raises:
            ServiceRefusedError: the answer is not that of an orchestrator.
        """
        async with self._http.request(method, address, allow_redirects=False, **options) as answer:
            return Reply(answer.status, dict(answer.headers), await _read(answer))


def _refusal(sent: Reply) -> ServiceRefusedError:
    return ServiceRefusedError(sent.answer.get("detail") or f"The answer is {sent.status}.")


async def _read(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The answer's JSON object. Raises ServiceRefusedError if it is a redirect or has none."""
    location, asked = answer.headers.get("Location"), shown_url(str(answer.url))
    if location and 300 <= answer.status < 400:
        raise ServiceRefusedError(
            f"{asked} redirects to {shown_url(location)}: name that with --url."
        )
    try:
        body = decode_json(await answer.read())
    except BadEvent:
        body = None
    if not isinstance(body, dict):
        raise ServiceRefusedError(
            f"{asked} answers {answer.status}, but not as an orchestrator does: check --url."
        )
    return body


@asynccontextmanager
async def open_client(url: str, *, headers: Mapping[str, str]) -> AsyncIterator[Client]:
    """A client of the service at `url`, which sends `headers` with each request.

    Raises:
        ServiceUnreachableError: there is no answer, or it is not HTTP.
    """
    try:
        async with aiohttp.ClientSession(headers=headers) as http:
            yield Client(http, URL(url))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceUnreachableError(
            f"Nothing answers at {shown_url(url)} ({error}): start the service, or pass another "
            "--url."
        ) from error
