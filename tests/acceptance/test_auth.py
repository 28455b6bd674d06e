"""Authentication by API keys."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
import structlog
from aiohttp import web

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.adapters.memory.secret_store import InMemorySecretStore
from orchestrator.adapters.secret_resolver import StoredSecretResolver
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.intake.app_keys import CREDENTIALS
from orchestrator.intake.auth import AUTH_METHODS, authenticate
from orchestrator.intake.auth_methods.api_key import ApiKeyMethod
from orchestrator.logs import configure_logs
from orchestrator.settings import ApiKey, Auth
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_problem
from tests.conftest import Client, StartService
from tests.ledgers import CountingLedger

KEYS = ("first-key-4711", "second-key-0815")
GUARDED = [
    ("POST", "/events/ORDER"),
    ("POST", "/events"),
    ("GET", "/runs/x"),
    ("GET", "/runs"),
    ("GET", "/tenants"),
    ("GET", "/tenants/t-1"),
    ("POST", "/tenants/t-1/cancel"),
    ("POST", "/runs/x/replay"),
    ("GET", "/nowhere"),
    ("PUT", "/events"),
    ("GET", "/healthz/more"),
]


@pytest.fixture
def ledger(clock: ManualClock) -> CountingLedger:
    return CountingLedger()


def guarded(settings: Settings, **api_key: Any) -> Settings:
    chosen = ApiKey(**{"keys": KEYS, **api_key})
    return attrs.evolve(settings, auth=Auth(methods=("api_key",), api_key=chosen))


def extension() -> Extension:
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        run.log.info("ordered", headers_seen=len(event.body))

    return Extension(registry=registry)


@pytest.fixture
async def service(
    start_service: StartService, settings: Settings, ledger: CountingLedger
) -> Client:
    return await start_service(guarded(settings), extension=extension(), ledger=ledger)


async def ask(
    service: Client, method: str, path: str, headers: Mapping[str, str]
) -> tuple[int, str]:
    body: dict[str, str] | None = {} if method == "POST" else None
    async with service.request(method, path, headers=headers, json=body) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/ping"])
async def test_probes_need_no_key(service: Client, path: str) -> None:
    """Health checks need no key, since a load balancer has none."""
    assert (await ask(service, "GET", path, {}))[0] == 200
    assert (await ask(service, "HEAD", path, {}))[0] == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_all_else_needs_a_key(
    service: Client, ledger: CountingLedger, method: str, path: str
) -> None:
    """Any other request without a key is a 401 that names the header, even for an unknown path, and
    writes nothing."""
    answer = await service.request(method, path, json={} if method == "POST" else None)
    problem = await read_problem(answer, 401)
    assert "x-api-key" in problem["detail"]
    assert "x-api-key" in answer.headers["WWW-Authenticate"]
    assert ledger.commits == 0


@pytest.mark.parametrize("key", KEYS)
async def test_each_of_the_keys_is_valid(service: Client, ledger: CountingLedger, key: str) -> None:
    """With any of the keys the service answers as without authentication."""
    headers = {"X-API-Key": key}
    assert await ask(service, "POST", "/events/ORDER", headers) == (200, '{"success": true}')
    assert ledger.commits == 2  # claim and settle
    assert (await ask(service, "GET", "/runs", headers))[0] == 200
    assert (await ask(service, "GET", "/nowhere", headers))[0] == 404
    assert (await ask(service, "PUT", "/events", headers))[0] == 405


@pytest.mark.parametrize(
    "sent",
    ["", "wrong", KEYS[0][:-1], KEYS[0] + "x", KEYS[0].upper(), ", ".join(KEYS), "schlüssel", "🔑"],
)
async def test_a_wrong_key_is_refused(service: Client, ledger: CountingLedger, sent: str) -> None:
    """An empty, almost right, repeated or non-ASCII key is 401, and writes nothing."""
    answer = await service.post("/events/ORDER", json={}, headers={"x-api-key": sent})
    await read_problem(answer, 401)
    assert "WWW-Authenticate" in answer.headers
    assert ledger.commits == 0


BLANKS = ("", " ", "\n", "\t \r\n", "\u00a0")


@pytest.mark.parametrize("blank", BLANKS)
async def test_a_blank_key_opens_nothing(
    aiohttp_client: Any, clock: ManualClock, blank: str
) -> None:
    """A blank key of a reference is ignored: the other keys stay valid, and a request without a key
    is 401."""
    store = InMemorySecretStore()
    credentials = StoredSecretResolver({"ssm": store}, clock)
    app = web.Application(middlewares=[authenticate])
    app[AUTH_METHODS] = [ApiKeyMethod(ApiKey(keys=("ssm:first", "ssm:second")))]
    app[CREDENTIALS] = credentials
    app.add_routes([web.get("/runs", welcome)])
    guarded: Client = await aiohttp_client(app)

    async def status(key: str) -> int:
        return (await ask(guarded, "GET", "/runs", {"x-api-key": key}))[0]

    await store.put(name="first", value=blank)
    await store.put(name="second", value=KEYS[1])
    assert [await status(key) for key in ("", "  ", "wrong", KEYS[1])] == [401, 401, 401, 200]
    assert (await ask(guarded, "GET", "/runs", {}))[0] == 401
    await store.put(name="second", value=blank)
    clock.turn(60)
    assert [await status(key) for key in ("", "  ", "wrong", KEYS[1])] == [401, 401, 401, 401]


@pytest.mark.parametrize("digest", [str.upper, lambda digest: digest[:-1]])
async def test_a_malformed_hash_is_no_key(
    aiohttp_client: Any, clock: ManualClock, digest: Callable[[str], str]
) -> None:
    """A malformed hash of a key is not accepted as a key, so that its readers can't send it."""
    hashed = digest(hashlib.sha256(KEYS[0].encode()).hexdigest())
    store = InMemorySecretStore()
    await store.put(name="hashed", value=f"sha256:{hashed}")
    app = web.Application(middlewares=[authenticate])
    app[AUTH_METHODS] = [ApiKeyMethod(ApiKey(keys=("ssm:hashed",)))]
    app[CREDENTIALS] = StoredSecretResolver({"ssm": store}, clock)
    app.add_routes([web.get("/runs", welcome)])
    guarded: Client = await aiohttp_client(app)
    for sent in (f"sha256:{hashed}", KEYS[0]):
        assert (await ask(guarded, "GET", "/runs", {"x-api-key": sent}))[0] == 401


async def welcome(request: web.Request) -> web.Response:
    return web.Response()


async def test_white_space_around_a_key_is_not_part_of_it(
    start_service: StartService, settings: Settings
) -> None:
    """White space around a key in the settings is ignored, since no header could have it."""
    service = await start_service(guarded(settings, keys=(f" {KEYS[0]}\n",)), extension=extension())
    assert (await ask(service, "POST", "/events/ORDER", {"x-api-key": KEYS[0]}))[0] == 200
    assert (await ask(service, "POST", "/events/ORDER", {"x-api-key": f" {KEYS[0]} "}))[0] == 200
    assert (await ask(service, "POST", "/events/ORDER", {"x-api-key": ""}))[0] == 401


async def test_the_header_may_have_another_name(
    start_service: StartService, settings: Settings
) -> None:
    """With another header's name the key counts in that header alone, and the refusal names it."""
    service = await start_service(guarded(settings, header="X-Our-Key"), extension=extension())
    assert (await ask(service, "POST", "/events/ORDER", {"x-our-key": KEYS[0]}))[0] == 200
    answer = await service.post("/events/ORDER", json={}, headers={"x-api-key": KEYS[0]})
    assert "X-Our-Key" in (await read_problem(answer, 401))["detail"]
    assert "X-Our-Key" in answer.headers["WWW-Authenticate"]


async def test_a_key_beyond_ascii_is_valid(start_service: StartService, settings: Settings) -> None:
    """A key beyond ASCII is valid, compared as UTF-8."""
    service = await start_service(guarded(settings, keys=("schlüssel",)), extension=extension())
    assert (await ask(service, "POST", "/events/ORDER", {"x-api-key": "schlüssel"}))[0] == 200
    assert (await ask(service, "POST", "/events/ORDER", {"x-api-key": "schlussel"}))[0] == 401


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logs_as_before")
async def test_keys_are_neither_logged_nor_answered(
    start_service: StartService, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a valid nor a wrong key is in an answer, in the log or in the settings' text."""
    configure_logs(level="debug", layout="json", redact=SECRET_NAMES)
    service = await start_service(guarded(settings), extension=extension())
    said = []
    for key in (*KEYS, "wrong-key-1234"):
        for method, path in GUARDED:
            said.append((await ask(service, method, path, {"x-api-key": key}))[1])
    said.extend([repr(guarded(settings)), *capsys.readouterr()])
    assert json.loads(said[-1].splitlines()[0])
    for key in (*KEYS, "wrong-key-1234"):
        assert not [text for text in said if key in text]


async def test_a_key_that_is_no_text_is_wrong(service: Client) -> None:
    """Bytes that aren't UTF-8 are refused like any wrong key."""
    reader, writer = await asyncio.open_connection(service.host, service.port)
    writer.write(b"GET /runs/x HTTP/1.1\r\nHost: x\r\nx-api-key: caf\xe9\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/ping"])
async def test_an_open_route_says_which_methods_it_has(service: Client, path: str) -> None:
    """A wrong method of an open route is 405 without a key."""
    answer = await service.request("TRACE", path)
    await read_problem(answer, 405)
