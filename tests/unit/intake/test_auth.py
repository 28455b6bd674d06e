"""The chain of auth methods: any of them may know the sender."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
from aiohttp import web

from orchestrator.core.errors import TemporaryError
from orchestrator.intake.access import ANY_SENDER, OPEN, Access, declare_access
from orchestrator.intake.auth import AUTH_METHODS, AuthMethod, authentication
from orchestrator.intake.auth_methods.api_key import ApiKeyMethod
from orchestrator.intake.auth_methods.choose import choose_methods
from orchestrator.intake.problems import answer_problems
from orchestrator.intake.refusal_log import REFUSALS, RefusalLog
from orchestrator.intake.sender import Sender
from orchestrator.settings import ApiKey, Auth, Basic, Gateway, Jwt, User
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_problem
from tests.conftest import Client

READER = Sender(name="reader", scopes=frozenset({"runs:read"}))


@attrs.define
class TokenMethod:
    """Knows a sender by a token in a header; `trouble` is why it can't decide."""

    name: str
    senders: Mapping[str, Sender] = attrs.field(factory=dict)
    trouble: str | None = None
    asked: int = 0

    @property
    def scheme(self) -> Mapping[str, Any]:
        return {"type": "http", "scheme": self.name}

    @property
    def challenge(self) -> str:
        return f'{self.name} realm="events"'

    @property
    def refusal(self) -> str:
        return f"The header X-{self.name} has no token: send one."

    async def authenticate(self, request: web.Request) -> Sender | None:
        self.asked += 1
        if self.trouble is not None:
            raise TemporaryError(self.trouble, retry_after_s=7)
        return self.senders.get(request.headers.get(f"X-{self.name}", ""))


@declare_access(ANY_SENDER)
async def welcome(_: web.Request) -> web.Response:
    return web.Response()


@declare_access(Access("runs:read"))
async def read(_: web.Request) -> web.Response:
    return web.Response()


@declare_access(Access("runs:write"))
async def write(_: web.Request) -> web.Response:
    return web.Response()


@declare_access(OPEN)
async def ping(_: web.Request) -> web.Response:
    return web.Response()


async def undeclared(_: web.Request) -> web.Response:
    return web.Response()


def build_app(methods: Sequence[AuthMethod], clock: ManualClock) -> web.Application:
    app = web.Application(middlewares=[answer_problems, *authentication(methods)])
    app[AUTH_METHODS] = methods
    app[REFUSALS] = RefusalLog(clock)
    app.add_routes(
        [
            web.get("/welcome", welcome),
            web.get("/runs", read),
            web.post("/runs", write),
            web.get("/ping", ping),
            web.get("/mixed", ping),
            web.post("/mixed", welcome),
            web.get("/undeclared", undeclared),
        ]
    )
    return app


@pytest.fixture
def first() -> TokenMethod:
    return TokenMethod("First")


@pytest.fixture
def second() -> TokenMethod:
    return TokenMethod("Second", {"known": READER})


@pytest.fixture
async def service(
    aiohttp_client: Any, clock: ManualClock, first: TokenMethod, second: TokenMethod
) -> Client:
    client: Client = await aiohttp_client(build_app([first, second], clock))
    return client


KNOWN = {"X-Second": "known"}


async def test_the_second_method_knows_a_sender_whom_the_first_does_not(service: Client) -> None:
    """Any of the methods is enough."""
    assert (await service.get("/welcome", headers=KNOWN)).status == 200


async def test_later_methods_are_not_tried_for_a_known_sender(
    service: Client, first: TokenMethod, second: TokenMethod
) -> None:
    """The methods are tried in their order, and no more of them than needed."""
    first.senders = {"known": READER}
    assert (await service.get("/welcome", headers={"X-First": "known"})).status == 200
    assert (first.asked, second.asked) == (1, 0)


async def test_an_unauthenticated_sender_gets_the_challenge_of_each_method(service: Client) -> None:
    """401 with the sentence and the challenge of every method, in one header."""
    answer = await service.get("/welcome", headers={"X-Second": "unknown"})
    assert (await read_problem(answer, 401))["detail"] == (
        "The header X-First has no token: send one. Or: The header X-Second has no token: send one."
    )
    assert answer.headers.getall("WWW-Authenticate") == [
        'First realm="events", Second realm="events"'
    ]


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
async def test_a_method_that_cannot_decide_now_answers_503(
    service: Client, first: TokenMethod, second: TokenMethod, is_first: bool
) -> None:
    """A sender that no other method knows may be authenticated later: 401 would lose an event. The
    reason isn't shown to senders: it may name roles and secrets."""
    unsure = first if is_first else second
    unsure.trouble = "arn:aws:sts::123456789012:assumed-role/task may not read ssm:key."
    answer = await service.get("/welcome")
    detail = (await read_problem(answer, 503))["detail"]
    assert detail == (
        f"The authentication method {unsure.name} can't check credentials now; the log says why: "
        "retry."
    )
    assert answer.headers["Retry-After"] == "7"


async def test_a_method_that_cannot_decide_now_stops_no_sender_that_another_knows(
    service: Client, first: TokenMethod
) -> None:
    """The sender is let in all the same."""
    first.trouble = "The keys can't be read."
    assert (await service.get("/welcome", headers=KNOWN)).status == 200


async def test_a_known_sender_without_the_scope_is_403(service: Client) -> None:
    """A sender that may read may not write; 401 is for one that isn't known at all."""
    assert (await service.get("/runs", headers=KNOWN)).status == 200
    problem = await read_problem(await service.post("/runs", headers=KNOWN), 403)
    assert problem["detail"] == (
        "The sender reader lacks the scope runs:write: send credentials that have it."
    )
    await read_problem(await service.post("/runs"), 401)


async def test_an_open_route_tries_no_method(
    service: Client, first: TokenMethod, second: TokenMethod
) -> None:
    """A probe is answered while the methods can't decide."""
    first.trouble = second.trouble = "The keys can't be read."
    assert (await service.get("/ping")).status == 200
    assert (await service.head("/ping")).status == 200
    assert first.asked == second.asked == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("TRACE", "/ping", 405),
        ("TRACE", "/runs", 401),
        ("GET", "/mixed", 200),
        ("POST", "/mixed", 401),
        ("TRACE", "/mixed", 401),
        ("GET", "/undeclared", 401),
        ("GET", "/nowhere", 401),
        ("GET", "/ping/", 401),
    ],
)
async def test_only_what_is_declared_open_is_open(
    service: Client, method: str, path: str, status: int
) -> None:
    """Any other is refused without credentials, also a method that its path doesn't have."""
    assert (await service.request(method, path)).status == status


async def test_open_routes_are_open_in_a_mounted_app(
    aiohttp_client: Any, clock: ManualClock, first: TokenMethod
) -> None:
    """Under the app's prefix its open routes are open, and no other one is."""
    parent = web.Application()
    parent.add_subapp("/ours", build_app([first], clock))
    client: Client = await aiohttp_client(parent)
    asked = [("GET", "ping"), ("TRACE", "ping"), ("GET", "runs"), ("TRACE", "runs")]
    found = [await client.request(method, f"/ours/{path}") for method, path in asked]
    assert [answer.status for answer in found] == [200, 405, 401, 401]


async def test_without_a_method_everything_is_open(aiohttp_client: Any, clock: ManualClock) -> None:
    """Production refuses to start so, unless the settings allow it."""
    client: Client = await aiohttp_client(build_app([], clock))
    assert (await client.post("/runs")).status == 200
    assert (await client.get("/undeclared")).status == 200


def test_each_method_of_the_settings_can_be_chosen_and_counts_once(clock: ManualClock) -> None:
    """A name that the settings allow leads to a method, however often it is there."""
    (names, _) = typing.get_args(typing.get_type_hints(Auth)["methods"])
    auth = Auth(
        methods=typing.get_args(names) * 2,
        api_key=ApiKey(keys=("key-1",)),
        basic=Basic(users=(User(name="ops", password="secret"),)),
        jwt=Jwt(issuer="https://issuer.example", audiences=("events",)),
        gateway=Gateway(proof="network"),
    )
    chosen = choose_methods(auth, clock)
    assert [method.name for method in chosen] == ["apiKey", "basic", "jwt", "gateway"]
    assert choose_methods(Auth(), clock) == []


def test_an_api_key_is_described_by_its_header() -> None:
    """The OpenAPI document, the challenge and the refusal name the header."""
    method = ApiKeyMethod(ApiKey(header="X-Our-Key", keys=("key-1",)))
    assert method.name == "apiKey"
    assert method.scheme == {"type": "apiKey", "in": "header", "name": "X-Our-Key"}
    assert method.challenge == 'ApiKey header="X-Our-Key"'
    assert method.refusal == (
        "The header X-Our-Key has no valid key: send one of the service's API keys."
    )
