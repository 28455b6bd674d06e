"""The senders that each authentication method recognizes, over HTTP and as a Lambda function."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
from aiohttp import web

from orchestrator import Settings, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.intake.auth import CALLER_HEADER
from orchestrator.settings import (
    ApiKey,
    Auth,
    Basic,
    Gateway,
    Jwt,
    Key,
    SettingsError,
    User,
)
from orchestrator.testing import ManualClock
from tests.acceptance.issuer import EC, OTHER_RSA, RSA, Issuer, open_issuer
from tests.acceptance.ways import (
    Document,
    Way,
    function_url_event,
    http_api_event,
    open_http,
    open_lambda,
    rest_api_event,
)

READ = ("GET", "/runs")
REPLAY = ("POST", "/runs/unknown/replay")
SEND = ("POST", "/events/ORDER")
#: The status for an authorized sender: there is no such run, and no handler of the type.
DONE = {READ: 200, REPLAY: 404, SEND: 400}
ALB = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/front/50dc6c495c0c9188"
HASHED = f"sha256:{hashlib.sha256(b'hashed-key-1').hexdigest()}"


@pytest.fixture
async def issuer(clock: ManualClock) -> AsyncIterator[Issuer]:
    async with open_issuer(clock) as opened:
        yield opened


Open = Callable[[web.Application], AbstractAsyncContextManager[Way]]


@pytest.fixture(params=["HTTP", "Lambda"])
def is_lambda(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "Lambda")


@attrs.define
class Door:
    """The service with an `auth` section."""

    settings: Settings
    clock: ManualClock
    is_lambda: bool
    make_event: Callable[..., Document] = http_api_event

    def open(self, **auth: Any) -> AbstractAsyncContextManager[Way]:
        settings = attrs.evolve(self.settings, auth=Auth(**auth))
        app = create_app(
            settings, clock=self.clock, ledger=InMemoryLedger(), hands_back=self.is_lambda
        )
        return open_lambda(app, self.make_event) if self.is_lambda else open_http(app)


@pytest.fixture
def door(settings: Settings, clock: ManualClock, is_lambda: bool) -> Door:
    return Door(settings, clock, is_lambda)


async def ask(way: Way, headers: Mapping[str, str], what: tuple[str, str] = READ) -> int | str:
    """`let in`, or the status of a refusal."""
    method, path = what
    body = b"{}" if method == "POST" else b""
    json_type = {"Content-Type": "application/json"} if body else {}
    answer = await way.send(method, path, {**json_type, **headers}, body)
    return "let in" if answer.status == DONE[what] else answer.status


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# API keys and Basic


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("plain-key-1", "let in"),
        ("hashed-key-1", "let in"),
        (HASHED, 401),
        (HASHED.removeprefix("sha256:"), 401),
        ("", 401),
        ("sha256:", 401),
        (" ", 401),
    ],
)
async def test_a_key_may_be_kept_as_its_hash(door: Door, sent: str, status: int | str) -> None:
    """A key in the settings may be a hash, which itself is not accepted as a key."""
    of_nothing = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    keys = ("plain-key-1", Key(key=HASHED, name="hashed"), of_nothing)
    async with door.open(methods=("api_key",), api_key=ApiKey(keys=keys)) as way:
        assert await ask(way, {"x-api-key": sent}) == status


@pytest.mark.parametrize(
    ("what", "scope"), [(SEND, "events:write"), (READ, "runs:read"), (REPLAY, "runs:write")]
)
async def test_a_key_may_do_what_its_scopes_say(
    door: Door, what: tuple[str, str], scope: Any
) -> None:
    """A key gives the scopes of its own; for all else a known sender gets 403."""
    keys = (Key(key="key-1", name="one", scopes=(scope,)), Key(key="key-2", scopes=()))
    async with door.open(methods=("api_key",), api_key=ApiKey(keys=keys)) as way:
        assert await ask(way, {"x-api-key": "key-1"}, what) == "let in"
        for other in set(DONE) - {what}:
            assert await ask(way, {"x-api-key": "key-1"}, other) == 403
        assert await ask(way, {"x-api-key": "key-2"}, what) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("bridge", "pass:word"), "let in"),
        (basic("hashed", "hashed-key-1"), "let in"),
        (
            {"Authorization": basic("bridge", "pass:word")["Authorization"].replace("B", "b", 1)},
            "let in",
        ),
        (basic("bridge", "hashed-key-1"), 401),
        (basic("hashed", HASHED), 401),
        (basic("bridge", ""), 401),
        (basic("", "pass:word"), 401),
        (basic("nobody", "pass:word"), 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"\xff:\xfe").decode()}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"bridge").decode()}, 401),
        ({"Authorization": "Bearer " + base64.b64encode(b"bridge:pass:word").decode()}, 401),
        ({}, 401),
    ],
)
async def test_a_user_is_recognized_by_name_and_password(
    door: Door, headers: Mapping[str, str], status: int | str
) -> None:
    """Basic credentials, as EventBridge's connections send them, are accepted if name and password
    are the same user's."""
    users = (User(name="bridge", password="pass:word"), User(name="hashed", password=HASHED))
    async with door.open(methods=("basic",), basic=Basic(users=users)) as way:
        assert await ask(way, headers) == status


# Tokens


def by_audience(issuer: Issuer, **more: Any) -> dict[str, Any]:
    return {
        "methods": ("jwt",),
        "jwt": Jwt(
            **{"issuer": issuer.url, "audiences": ("events",), "scopes": ("runs:read",), **more}
        ),
    }


Make = Callable[[Issuer], str]
NOW = int(ManualClock().now().timestamp())


@pytest.mark.parametrize(
    ("make", "status"),
    [
        pytest.param(lambda of: of.token(), "let in", id="valid"),
        pytest.param(lambda of: of.token(key=EC, alg="ES256"), "let in", id="by another key"),
        pytest.param(lambda of: of.token(aud=["a", "events"]), "let in", id="one of audiences"),
        pytest.param(lambda of: of.token(exp=NOW - 20), "let in", id="within the leeway"),
        pytest.param(lambda of: of.token(exp=NOW - 40), 401, id="expired"),
        pytest.param(lambda of: of.token(exp=None), 401, id="never expires"),
        pytest.param(lambda of: of.token(exp="soon"), 401, id="expires at no time"),
        pytest.param(lambda of: of.token(nbf=NOW + 40), 401, id="not valid yet"),
        pytest.param(lambda of: of.token(aud="others"), 401, id="for another audience"),
        pytest.param(lambda of: of.token(aud=None), 401, id="for no audience"),
        pytest.param(lambda of: of.token(aud={"events": 1}), 401, id="odd audience"),
        pytest.param(lambda of: of.token(iss="https://evil.example"), 401, id="other issuer"),
        pytest.param(lambda of: of.token(iss=None), 401, id="no issuer"),
        pytest.param(lambda of: of.token(sub=None), 401, id="of nobody"),
        pytest.param(lambda of: of.token(token_use="id"), 401, id="id token"),
        pytest.param(lambda of: of.token(key=OTHER_RSA), 401, id="unknown key"),
        pytest.param(lambda of: of.token(key=OTHER_RSA, kid=RSA.kid), 401, id="wrong signature"),
        pytest.param(lambda of: of.token(alg="RS512"), 401, id="algorithm not allowed"),
        pytest.param(lambda of: of.token(sub=""), 401, id="of a blank name"),
        pytest.param(lambda of: of.token(sub="ops\x1b[2J"), 401, id="of a name for a terminal"),
        pytest.param(
            lambda of: of.signed({}, json.dumps({**of.claims, "sub": "\ud800"})),
            401,
            id="of half a character",
        ),
        pytest.param(lambda of: of.signed({}, '{"a":' + "[" * 2400), 401, id="deep claims"),
        pytest.param(lambda of: of.signed({}, "[]"), 401, id="claims that are a list"),
        pytest.param(
            lambda of: of.signed({}, json.dumps(of.claims)[:-1] + ', "aud": "events"}'),
            401,
            id="a claim twice",
        ),
        *(
            pytest.param(lambda of, crit=crit: of.signed({"crit": crit}), 401, id=f"crit {crit}")
            for crit in (5, [["a"]], [], ["kid"], ["exp"])
        ),
        pytest.param(
            lambda of: of.token(aud="events", client_id="other"), "let in", id="of any client"
        ),
        pytest.param(lambda of: of.forged("none"), 401, id="alg none"),
        pytest.param(lambda of: of.forged("HS256"), 401, id="HS256 by the public key"),
        pytest.param(lambda of: of.token()[:-2], 401, id="cut"),
        pytest.param(lambda of: "a.b.c", 401, id="no token"),
        pytest.param(lambda of: "", 401, id="nothing"),
        pytest.param(lambda of: "[" * 4000, 401, id="deep"),
        pytest.param(
            lambda of: base64.urlsafe_b64encode(b'{"a":' * 900).decode(), 401, id="deep header"
        ),
    ],
)
async def test_a_token_is_accepted_if_all_of_it_is_right(
    door: Door, issuer: Issuer, make: Make, status: int | str
) -> None:
    """A token is accepted if its signature, algorithm, issuer, audience and times are right."""
    async with door.open(**by_audience(issuer)) as way:
        assert await ask(way, bearer(make(issuer))) == status


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"client_id": "control-plane", "token_use": "access"}, "let in"),
        ({"azp": "control-plane"}, "let in"),
        ({"client_id": "other", "token_use": "access"}, 401),
        ({"client_id": "control-plane", "token_use": "id"}, 401),
        ({"client_id": ["control-plane"]}, 401),
        ({}, 401),
    ],
)
async def test_an_access_token_of_cognito_is_accepted_by_its_client(
    door: Door, issuer: Issuer, claims: Mapping[str, Any], status: int | str
) -> None:
    """An access token of Cognito, which names no audience, is accepted by its client id."""
    auth = by_audience(issuer, audiences=(), clients=("control-plane",))
    async with door.open(**auth) as way:
        assert await ask(way, bearer(issuer.token(aud=None, **claims))) == status


@pytest.mark.parametrize(
    ("scope", "may_replay"),
    [
        ("runs:write", True),
        ("openid https://events.example/runs:write", True),
        ("runs:writer", False),
        ("", False),
        (["runs:write"], False),
    ],
)
async def test_a_token_brings_its_scopes(
    door: Door, issuer: Issuer, scope: Any, may_replay: bool
) -> None:
    """A token's scopes, which Cognito prefixes with the resource server, are added to those that
    the settings give to all."""
    async with door.open(**by_audience(issuer)) as way:
        token = bearer(issuer.token(scope=scope))
        assert await ask(way, token, READ) == "let in"
        assert await ask(way, token, REPLAY) == ("let in" if may_replay else 403)
        assert await ask(way, token, SEND) == 403


async def test_keys_are_fetched_once_and_for_an_unknown_id_once_a_minute(
    settings: Settings, clock: ManualClock, issuer: Issuer
) -> None:
    """The issuer's keys are fetched once, and again for an unknown key id at most once a minute,
    since any sender can make one up."""
    async with Door(settings, clock, False).open(**by_audience(issuer)) as way:
        for _ in range(3):
            assert await ask(way, bearer(issuer.token())) == "let in"
        assert len(issuer.asked) == 1
        unknown = bearer(issuer.token(key=OTHER_RSA))
        assert [await ask(way, unknown) for _ in range(3)] == [401] * 3
        assert len(issuer.asked) == 1
        clock.turn(60)
        assert [await ask(way, unknown) for _ in range(3)] == [401] * 3
        assert len(issuer.asked) == 2
        issuer.keys.append(OTHER_RSA.as_dict(private=False))
        assert await ask(way, unknown) == 401
        clock.turn(60)
        assert await ask(way, unknown) == "let in"


async def test_a_withdrawn_key_is_refused_within_an_hour(
    settings: Settings, clock: ManualClock, issuer: Issuer
) -> None:
    """The keys are fetched again after an hour, and a key that is missing then is refused."""
    async with Door(settings, clock, False).open(**by_audience(issuer)) as way:
        assert await ask(way, bearer(issuer.token())) == "let in"
        issuer.keys = [EC.as_dict(private=False)]
        clock.turn(3600)
        assert await ask(way, bearer(issuer.token())) == 401


NO_KEYS = [
    lambda: web.json_response({"keys": [RSA.as_dict(private=False)]}, status=500),
    lambda: web.Response(status=302, headers={"Location": "/moved.json"}),
    lambda: web.Response(text="<html>"),
    lambda: web.json_response({"keys": []}),
    lambda: web.json_response(["keys"]),
    lambda: web.json_response({"keys": {"a": 1}}),
    lambda: web.Response(body=b" " * 300_000),
    lambda: web.Response(body=b"[" * 100_000),
]


@pytest.mark.parametrize("make", NO_KEYS)
async def test_an_unreachable_issuer_is_503(
    settings: Settings, clock: ManualClock, issuer: Issuer, make: Callable[[], web.Response]
) -> None:
    """Without the issuer's keys the answer is 503, after which EventBridge retries; keys that were
    fetched before stay valid."""
    issuer.answer = make()
    async with Door(settings, clock, False).open(**by_audience(issuer)) as way:
        assert await ask(way, bearer(issuer.token())) == 503
        asked = len(issuer.asked)
        assert await ask(way, bearer(issuer.token())) == 503
        assert len(issuer.asked) == asked
        issuer.answer = None
        clock.turn(5)
        assert await ask(way, bearer(issuer.token())) == "let in"
        issuer.answer = make()
        clock.turn(3600)
        assert await ask(way, bearer(issuer.token())) == "let in"


async def test_a_token_of_a_client_for_another_service_is_refused(
    door: Door, issuer: Issuer
) -> None:
    """A token for another audience is refused even if its client is listed, since that service
    could send it here."""
    auth = by_audience(issuer, clients=("control-plane",))
    async with door.open(**auth) as way:
        client = {"client_id": "control-plane"}
        assert await ask(way, bearer(issuer.token(aud="others", **client))) == 401
        assert await ask(way, bearer(issuer.token(aud=None, **client))) == "let in"
        assert await ask(way, bearer(issuer.token(**client))) == "let in"


async def test_a_key_whose_private_part_is_public_proves_nothing(
    settings: Settings, clock: ManualClock, issuer: Issuer
) -> None:
    """A published key that includes its private part is ignored, since anyone can sign with it."""
    issuer.keys = [RSA.as_dict(private=True), EC.as_dict(private=False)]
    async with Door(settings, clock, False).open(**by_audience(issuer)) as way:
        assert await ask(way, bearer(issuer.token())) == 401
        assert await ask(way, bearer(issuer.token(key=EC, alg="ES256"))) == "let in"


async def test_one_odd_key_of_a_set_spoils_no_other(
    settings: Settings, clock: ManualClock, issuer: Issuer
) -> None:
    """Keys of an unknown kind, without an id or of a wrong type don't prevent the use of the
    others."""
    odd: list[Any] = [{"kty": "new", "kid": "x"}, {"kty": "RSA", "kid": "y"}, {}, 5, None]
    issuer.keys = [*odd, *issuer.keys]
    async with Door(settings, clock, False).open(**by_audience(issuer)) as way:
        assert await ask(way, bearer(issuer.token())) == "let in"


# Gateways


@pytest.mark.parametrize(
    ("own", "status"),
    [
        pytest.param({}, "let in", id="valid"),
        pytest.param({"email": "ops\x1b[2J"}, 401, id="of a name for a terminal"),
        pytest.param({"signer": ALB.replace("front", "other")}, 401, id="of another one"),
        pytest.param({"exp": NOW - 1}, 401, id="expired"),
        pytest.param({"kid": "../../evil"}, 401, id="a path as a key's id"),
        pytest.param({"kid": "unknown"}, 503, id="unknown key"),
        pytest.param({"email": None, "sub": None}, 401, id="of nobody"),
    ],
)
async def test_a_load_balancers_claims_are_verified(
    settings: Settings, clock: ManualClock, issuer: Issuer, own: Mapping[str, Any], status: Any
) -> None:
    """Claims are accepted if the load balancer of the settings signed them, with the padding that
    it sends."""
    data = issuer.alb_data(**{"signer": ALB, **own})
    gateway = Gateway(proof="alb", alb_arn=ALB, public_keys_url=issuer.url)
    async with Door(settings, clock, False).open(methods=("gateway",), gateway=gateway) as way:
        assert await ask(way, {"x-amzn-oidc-data": data}) == status
        assert await ask(way, {}) == 401
    assert not [path for path in issuer.asked if "evil" in path]


async def test_claims_changed_after_signing_are_refused(
    settings: Settings, clock: ManualClock, issuer: Issuer
) -> None:
    """Claims that were changed after signing, or have no valid signature, are refused."""
    header, claims, signature = issuer.alb_data(signer=ALB).split(".")
    other = base64.urlsafe_b64encode(b'{"email": "root@saas.example"}').decode()
    gateway = Gateway(proof="alb", alb_arn=ALB, public_keys_url=issuer.url)
    async with Door(settings, clock, False).open(methods=("gateway",), gateway=gateway) as way:
        assert await ask(way, {"x-amzn-oidc-data": f"{header}.{other}.{signature}"}) == 401
        assert await ask(way, {"x-amzn-oidc-data": f"{header}.{claims}."}) == 401
        assert await ask(way, {"x-amzn-oidc-data": f"{header}.{claims}.{'A' * 86}"}) == 401


CALLER = "arn:aws:sts::123456789012:assumed-role/control-plane/session"


def by_iam(make_event: Callable[..., Document], caller: object) -> Callable[..., Document]:
    """Events in which API Gateway names the caller that signed the request."""

    def make(*args: Any, **more: Any) -> Document:
        event = make_event(*args, **more)
        if make_event is rest_api_event:
            event["requestContext"]["identity"] = {"userArn": caller}
        else:
            event["requestContext"]["authorizer"] = {"iam": {"userArn": caller}}
        return event

    return make


@pytest.mark.parametrize("make_event", [rest_api_event, http_api_event, function_url_event])
@pytest.mark.parametrize(
    ("caller", "status"), [(CALLER, "let in"), (None, 401), ("", 401), ({}, 401), ("x\ny", 401)]
)
async def test_the_caller_of_a_lambda_event_is_the_sender(
    settings: Settings,
    clock: ManualClock,
    make_event: Callable[..., Document],
    caller: object,
    status: int | str,
) -> None:
    """The sender is the caller in the event's context; the header that passes it to the app is
    ignored in requests."""
    door = Door(settings, clock, True, by_iam(make_event, caller))
    async with door.open(methods=("gateway",), gateway=Gateway(proof="lambda")) as way:
        assert await ask(way, {}) == status
        forged = await ask(way, {CALLER_HEADER: CALLER, CALLER_HEADER.lower(): CALLER})
        assert forged == status


def test_only_lambda_can_prove_a_lambda_caller(settings: Settings) -> None:
    """The proof `lambda` is refused outside Lambda, where any sender could send the header."""
    auth = Auth(methods=("gateway",), gateway=Gateway(proof="lambda"))
    with pytest.raises(SettingsError, match="only the AWS Lambda handler"):
        create_app(attrs.evolve(settings, auth=auth))


async def test_the_network_authenticates_if_the_settings_say_so(door: Door) -> None:
    """With the proof `network` each request has the scopes that the settings give to it."""
    gateway = Gateway(proof="network", scopes=("events:write",))
    async with door.open(methods=("gateway",), gateway=gateway) as way:
        assert await ask(way, {}, SEND) == "let in"
        assert await ask(way, {}, READ) == 403


async def test_a_later_method_may_have_the_scope(door: Door) -> None:
    """A request is allowed if any method that recognizes its sender gives the scope."""
    auth: dict[str, Any] = {
        "methods": ("api_key", "basic"),
        "api_key": ApiKey(keys=(Key(key="key-1", name="reader", scopes=("runs:read",)),)),
        "basic": Basic(users=(User(name="ops", password="secret-1"),)),
    }
    async with door.open(**auth) as way:
        both = {"x-api-key": "key-1", **basic("ops", "secret-1")}
        assert await ask(way, both, REPLAY) == "let in"
        assert await ask(way, {"x-api-key": "key-1"}, REPLAY) == 403
        assert await ask(way, {"x-api-key": "key-1", **basic("ops", "wrong")}, READ) == "let in"
