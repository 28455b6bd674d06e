"""A client of the service over HTTP."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import attrs
from yarl import URL

from orchestrator.adapters.clock import RandomIds
from orchestrator.cli.layout import show_time
from orchestrator.cli.tables import MOST_EMPTY_PAGES
from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import read_event_id
from orchestrator.core.texts import system_reason
from orchestrator.core.urls import path_segment, shown_url
from orchestrator.wire.codec import decode_json

#: The service's maximum for the `limit` of a page.
_LARGEST_PAGE = 100
#: A run is found by the beginning of its id in so many pages of the latest runs, else in as many of
#: the latest failed ones.
_MOST_PAGES = 10
#: Hexadecimal digits of a whole id (`core.identifiers.digest`).
_WHOLE_ID = 40
_SHORTEST_PREFIX = 4
#: For a server that accepts connections and never answers; longer than the service takes for any
#: answer.
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
#: How many ids an ambiguous prefix names.
_MOST_NAMED = 5


class ServiceUnreachableError(Exception):
    """The service doesn't answer at its URL."""


class ServiceRefusedError(Exception):
    """The service answered with an error. `status` is 0 if the answer is no orchestrator's."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class AmbiguousPrefixError(Exception):
    """Several ids have the prefix."""


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

    @property
    def detail(self) -> str:
        """The sentence of an error, with how to send what is missing."""
        said: str = self.answer.get("detail") or f"The answer is {self.status}."
        how = " Pass it with --header NAME:VALUE, or in the variable ORCHESTRATOR_HEADER."
        return said + how if self.status == HTTPStatus.UNAUTHORIZED else said

    def as_json(self) -> dict[str, Any]:
        return {"status": self.status, "answer": self.answer, "run": self.run}


class Client:
    """Calls the service; created by `open_client`."""

    def __init__(self, http: aiohttp.ClientSession, base: URL) -> None:
        self._http = http
        self._base = base

    async def send_event(
        self, event_type: str, text: bytes, *, event_id: str | None = None
    ) -> Reply:
        """Post an event under `event_id`; without one a body that has none gets a new one, so that
        it counts as a new event.

        Raises:
            BadEvent: the text is not an event.
        """
        headers = {"Content-Type": "application/json"}
        if event_id is None and read_event_id(decode_json(text)) is None:
            event_id = RandomIds().fresh_id()
        if event_id is not None:
            headers["Idempotency-Key"] = event_id
        address = self._at("events", event_type)
        return await self._post(address, text, headers)

    async def replay_run(self, run_id: str, *, force: bool) -> Reply:
        """Replay a run; the id may be a unique prefix.

        Raises:
            AmbiguousPrefixError: several runs have it.
        """
        body = json.dumps({"force": force}).encode()
        headers = {"Content-Type": "application/json"}
        sent = await self._post(self._at("runs", run_id, "replay"), body, headers)
        if sent.status != 404:
            return sent
        try:
            whole = await self._find_run(run_id)
        except ServiceRefusedError as error:
            return attrs.evolve(sent, answer={**sent.answer, "detail": str(error)})
        return await self._post(self._at("runs", whole, "replay"), body, headers)

    async def cancel(self, tenant_id: str, *, reason: str | None, clean_up: bool) -> dict[str, Any]:
        """Cancel a tenant's operation: `stopped` names it; `ended` is False while its job still
        has to be stopped.

        Raises:
            ServiceRefusedError: no operation is under way, it can't be stopped now, or there is no
                such tenant (404).
        """
        address = self._at("tenants", tenant_id, "cancel")
        body = {"reason": reason, "cleanUp": clean_up}
        sent = await self._ask("POST", address, json=body)
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
        """One run; the id may be a unique prefix.

        Raises:
            ServiceRefusedError: it doesn't exist.
            AmbiguousPrefixError: several runs have the prefix.
        """
        try:
            return await self._get(self._at("runs", run_id))
        except ServiceRefusedError as error:
            if error.status != 404:
                raise
            return await self._get(self._at("runs", await self._find_run(run_id)))

    async def find_operation(self, operation_id: str) -> dict[str, Any] | None:
        """One operation; None: there is none, as for a run that starts no job."""
        try:
            return await self._get(self._at("operations", operation_id))
        except ServiceRefusedError as error:
            if error.status != 404:
                raise
            return None

    async def get_runs(self, query: Mapping[str, str | None], *, limit: int) -> dict[str, Any]:
        """A page of up to `limit` runs. Raises ServiceRefusedError for an invalid query."""
        return await self._list("runs", query, limit)

    async def get_tenants(self, query: Mapping[str, str | None], *, limit: int) -> dict[str, Any]:
        """A page of up to `limit` tenants. Raises ServiceRefusedError for an invalid query."""
        return await self._list("tenants", query, limit)

    async def get_tenant(
        self, tenant_id: str, query: Mapping[str, str | None] | None = None
    ) -> dict[str, Any]:
        """One tenant; the id may be a unique prefix.

        Raises:
            ServiceRefusedError: it doesn't exist.
            AmbiguousPrefixError: several tenants have the prefix.
        """
        parameters = _given(query or {})
        try:
            return await self._get(self._at("tenants", tenant_id).with_query(parameters))
        except ServiceRefusedError as error:
            if error.status != 404:
                raise
            whole = await self.find_tenant(tenant_id)
            return await self._get(self._at("tenants", whole).with_query(parameters))

    async def find_tenant(self, prefix: str) -> str:
        """The id of the only tenant with this prefix, in one request.

        Raises:
            ServiceRefusedError: there is none (404).
            AmbiguousPrefixError: there are several.
        """
        none = ServiceRefusedError(f"There is no tenant {prefix!r}.", 404)
        if len(prefix) < _SHORTEST_PREFIX:
            raise none
        parameters = {"prefix": prefix, "limit": str(_MOST_NAMED + 1)}
        page = await self._get(self._at("tenants").with_query(parameters))
        named = [f"{one['tenantId']} ({one['state']})" for one in page["items"]]
        _check_unique(prefix, "tenants", named, is_all=page["cursor"] is None)
        if not page["items"]:
            raise none
        found: str = page["items"][0]["tenantId"]
        return found

    async def _find_run(self, prefix: str) -> str:
        """The id of the only run with this prefix, among the latest and the latest failed ones.

        Raises:
            ServiceRefusedError: there is none (404).
            AmbiguousPrefixError: there are several.
        """
        missing = f"There is no run {prefix!r}"
        if len(prefix) < _SHORTEST_PREFIX or len(prefix) >= _WHOLE_ID:
            raise ServiceRefusedError(f"{missing}.", 404)
        found = await self._runs_beginning_with(prefix, {})
        if not found:
            found = await self._runs_beginning_with(prefix, {"status": "failed"})
        named = [
            f"{one['runId']} ({one['eventType']} of {one['tenantId']}, {one['status']}, "
            f"{show_time(one['firstSeen'])})"
            for one in found.values()
        ]
        _check_unique(prefix, "runs", named, is_all=True)
        if not found:
            raise ServiceRefusedError(
                f"{missing}. A prefix finds one of the latest runs only.",
                404,
            )
        return next(iter(found))

    async def _runs_beginning_with(
        self, prefix: str, query: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """The runs that match, of the first `_MOST_PAGES` pages."""
        found: dict[str, dict[str, Any]] = {}
        parameters = {**query, "limit": str(_LARGEST_PAGE)}
        for _ in range(_MOST_PAGES):
            page = await self._get(self._at("runs").with_query(parameters))
            found |= {one["runId"]: one for one in page["items"] if one["runId"].startswith(prefix)}
            if page["cursor"] is None:
                break
            parameters["cursor"] = page["cursor"]
        return found

    def _at(self, *segments: str) -> URL:
        """A URL below the service's, which may have a path prefix."""
        path = "/".join(map(path_segment, segments))
        return URL(f"{str(self._base).rstrip('/')}/{path}", encoded=True)

    async def _list(
        self, items: str, query: Mapping[str, str | None], limit: int
    ) -> dict[str, Any]:
        """One page, read as several pages of the service, up to `MOST_EMPTY_PAGES` empty ones in a
        row."""
        parameters = _given(query)
        found: list[Any] = []
        empty = 0
        while True:
            parameters["limit"] = str(min(limit - len(found), _LARGEST_PAGE))
            page = await self._get(self._at(items).with_query(parameters))
            found += page["items"]
            empty = 0 if page["items"] else empty + 1
            if page["cursor"] is None or len(found) >= limit or empty == MOST_EMPTY_PAGES:
                return {"items": found, "cursor": page["cursor"]}
            parameters["cursor"] = page["cursor"]

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
            ServiceUnreachableError: there is no answer, or it is not HTTP.
        """
        try:
            async with self._http.request(
                method, address, allow_redirects=False, **options
            ) as answer:
                return Reply(answer.status, dict(answer.headers), await _read(answer))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServiceUnreachableError(
                f"Nothing answers at {shown_url(str(self._base))} ({_reason(error)}): start the "
                "service, or pass another --url."
            ) from error


def _reason(error: aiohttp.ClientError | TimeoutError) -> str:
    match error:
        case aiohttp.ClientSSLError():
            return str(error)
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientOSError():
            return system_reason(error)
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection"
        case aiohttp.ClientResponseError():
            return "that is not HTTP"
        case aiohttp.ClientPayloadError():
            return "its answer broke off"
    return str(error)


def _given(query: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value is not None}


def _check_unique(prefix: str, what: str, named: Sequence[str], *, is_all: bool) -> None:
    """Raises AmbiguousPrefixError: several ids have the prefix; up to `_MOST_NAMED` are named."""
    if len(named) < 2:
        return
    more = "" if is_all and len(named) <= _MOST_NAMED else ", and more"
    raise AmbiguousPrefixError(
        f"{prefix!r} begins the ids of several {what}: {', '.join(named[:_MOST_NAMED])}{more}."
    )


def _refusal(sent: Reply) -> ServiceRefusedError:
    return ServiceRefusedError(sent.detail, sent.status)


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
async def open_client(
    url: str, *, headers: Mapping[str, str], patience: aiohttp.ClientTimeout = _PATIENCE
) -> AsyncIterator[Client]:
    """A client of the service at `url`, which sends `headers` with each request."""
    async with aiohttp.ClientSession(headers=headers, timeout=patience) as http:
        yield Client(http, URL(url))
