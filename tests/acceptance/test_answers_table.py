"""The contract's table "Answers of POST /events…", row by row, each by every entry point.

HTTP, a REST API's function and an HTTP API's must give the same answer: status, media type,
body and headers. An answer with a run's address has it on each of them.
"""

import gzip
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

import attrs
import pytest
from aiohttp import web

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Run,
    Settings,
    TemporaryError,
    create_app,
)
from orchestrator.core.events.envelope import Delivery, parse_event
from orchestrator.core.ledger.claim_request import ClaimRequest
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import ApiKey, Auth, Aws, Runs, Tiers
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.ways import (
    Answer,
    Way,
    http_api_event,
    open_http,
    open_lambda,
    rest_api_event,
)
from tests.ledgers import CountingLedger

OpenWay = Callable[[web.Application], AbstractAsyncContextManager[Way]]

WAYS: dict[str, OpenWay] = {
    "HTTP": open_http,
    "Lambda, format 1.0": partial(open_lambda, make_event=rest_api_event),
    "Lambda, format 2.0": partial(open_lambda, make_event=http_api_event),
}

JSON = {"Content-Type": "application/json"}
MEBIBYTE = 1024 * 1024
#: The headers that inform a sender.
TELLING = (
    "Content-Type",
    "Location",
    "Idempotent-Replayed",
    "Retry-After",
    "Allow",
    "WWW-Authenticate",
)
#: What a problem's detail must never show.
INSIDE = ("Traceback", "KeyError", "password-1234", ".py")

THROTTLED = ("ThrottlingException", "Rate exceeded")
QUOTA = ("AccountLimitExceededException", "Cannot have more than 60 builds in queue")
DENIED = ("AccessDeniedException", "not authorized to perform: codebuild:StartBuild")


@attrs.frozen
class Scene:
    """The service and the ledger of a row."""

    way: Way
    ledger: CountingLedger
    codebuild: CodeBuildStandIn
    monkeypatch: pytest.MonkeyPatch


Before = Callable[[Scene], Awaitable[None]]


# What happened before


def earlier(event: Mapping[str, Any]) -> Before:
    """An event was handled before, by the same entry point."""

    async def before(scene: Scene) -> None:
        answer = await scene.way.post("/events", JSON, json.dumps(event).encode())
        assert answer.status == 200

    return before


def in_progress(event: dict[str, Any]) -> Before:
    """Another replica has claimed an event, and is handling it."""

    async def before(scene: Scene) -> None:
        claimed = parse_event(
            event["detail-type"],
            event,
            delivery=Delivery(),
            aliases={},
            now=datetime(2026, 11, 20, 9, 14, 3, tzinfo=UTC),
            fresh_id=str,
        )
        transactions = Transactions(ledger=scene.ledger, clock=ManualClock(), timings=Timings())
        request = ClaimRequest(event=claimed, payload=encode_event(claimed), tenant_id=None)
        assert isinstance(await claim_run(transactions, request), RunLease)

    return before


def codebuild_fails(make_fault: Callable[[], Fault], times: int = 1) -> Before:
    """The next requests to CodeBuild fail, including the SDK's second try."""

    async def before(scene: Scene) -> None:
        scene.codebuild.inject("StartBuild", *[make_fault() for _ in range(times)])

    return before


async def codebuild_is_unreachable(scene: Scene) -> None:
    """CodeBuild's endpoint refuses connections."""
    scene.monkeypatch.setenv("AWS_ENDPOINT_URL_CODEBUILD", "http://127.0.0.1:9")


async def tier_table_is_missing(tier: str) -> dict[str, Any] | None:
    """A user's function for tiers that can't read them."""
    raise TemporaryError(f"The table of tier {tier} does not exist.", retry_after_s=0)


# What is sent


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def provisioning(**changes: Any) -> bytes:
    """A provisioning event whose detail has other fields; None leaves one out."""
    event = provisioning_event()
    detail = {**event["detail"], **changes}
    event["detail"] = {name: value for name, value in detail.items() if value is not None}
    return text(event)


def override(**values: Any) -> dict[str, Any]:
    return {"type": "CODE_BUILD", "config": {"environmentOverride": values}}


MINE = envelope("MY_EVENT", {"a": 1})
UNHANDLED = envelope("TENANT_PARTY", {"a": 1})


# The table


@attrs.frozen(kw_only=True)
class Row:
    """A case of the contract and its answer.

    `run` is the status of the run whose address the answer has; None: there must be no run.
    `detail` is part of the problem's; `errors` are the paths that it lists. `headers` are
    those of the answer besides `Location`, `Retry-After` and `Content-Type`.
    """

    status: int
    run: str | None = None
    detail: str | None = None
    errors: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    least_pause_s: int = 1
    method: str = "POST"
    path: str = "/events"
    body: bytes = text(MINE)
    sent: Mapping[str, str] = JSON
    before: Before | None = None
    settings: Mapping[str, Any] = {}
    extension: Mapping[str, Any] = {}


def handled(**given: Any) -> Row:
    return Row(status=200, run="succeeded", **given)


def replayed(**given: Any) -> Row:
    return handled(headers={"Idempotent-Replayed": "true"}, **given)


def temporary(**given: Any) -> Row:
    return Row(status=503, run="retry", body=given.pop("body", provisioning()), **given)


def no_event(**given: Any) -> Row:
    return Row(status=400, **given)


def never(**given: Any) -> Row:
    return Row(status=422, run="failed", **given)


GUARDED = {"auth": Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1", "key-2")))}
CHALLENGE = {"WWW-Authenticate": 'ApiKey header="x-api-key"'}

TABLE: dict[str, Row] = {
    "handled": handled(),
    "handled: the type in the path": handled(path="/events/MY_EVENT", body=b'{"a": 1}'),
    "handled: a build is started": handled(body=provisioning()),
    "handled: with a valid key": handled(sent={**JSON, "X-Api-Key": "key-2"}, settings=GUARDED),
    "handled: a compressed body": handled(
        body=gzip.compress(text(MINE)), sent={**JSON, "Content-Encoding": "gzip"}
    ),
    "duplicate of a handled event": replayed(before=earlier(MINE)),
    "duplicate: the type in the path": replayed(before=earlier(MINE), path="/events/MY_EVENT"),
    "duplicate: of a build that was started": replayed(
        before=earlier(provisioning_event()), body=provisioning()
    ),
    "the same event is being handled right now": Row(
        status=503, run="running", detail="being handled right now", before=in_progress(MINE)
    ),
    "temporary: throttling": temporary(
        detail="Rate exceeded", before=codebuild_fails(partial(Fault.error, *THROTTLED), times=2)
    ),
    "temporary: quota": temporary(
        detail="60 builds",
        before=codebuild_fails(partial(Fault.error, *QUOTA)),
        least_pause_s=30,
    ),
    "temporary: access denied": temporary(
        detail="not authorized", before=codebuild_fails(partial(Fault.error, *DENIED))
    ),
    "temporary: our own table missing": temporary(
        detail="The table of tier STANDARD", extension={"tiers": tier_table_is_missing}
    ),
    "temporary: refused connection": temporary(before=codebuild_is_unreachable),
    "temporary: time-out": temporary(
        before=codebuild_fails(Fault.slow, times=2), settings={"aws": Aws(read_timeout_s=0.2)}
    ),
    "temporary: a handler says so": temporary(
        body=text(envelope("BANK_CLOSED", {})), detail="closed until nine", least_pause_s=42
    ),
    "unsupported event type": no_event(
        run="failed", body=text(UNHANDLED), detail="Unsupported event type: TENANT_PARTY"
    ),
    "unsupported event type in the path": no_event(
        run="failed",
        path="/events/TENANT_PARTY",
        body=b"{}",
        detail="Unsupported event type: TENANT_PARTY",
    ),
    "not JSON": no_event(body=b'{"detail-type": "MY_EV'),
    "not JSON: not UTF-8": no_event(body=b'{"a": "\xff"}', path="/events/MY_EVENT"),
    "not JSON: empty": no_event(body=b"", path="/events/MY_EVENT"),
    "not an object: bare string": no_event(body=b'"text"', detail="a string"),
    "not an object: list": no_event(body=b"[1]", path="/events/MY_EVENT", detail="a list"),
    "broken envelope: detail is text": no_event(
        body=text({**MINE, "detail": "text"}), detail='"detail"'
    ),
    "broken envelope: no type": no_event(body=b'{"a": 1}', detail="no type"),
    "broken envelope: time": no_event(body=text({**MINE, "time": "soon"}), detail='"time"'),
    "path type against envelope type": no_event(
        path="/events/BANK_CLOSED", body=text(MINE), detail="BANK_CLOSED"
    ),
    "payload does not fit the handler's model": never(
        body=provisioning(planConfig={"tier": 1}, tenant=None, tenantId=7),
        errors=("$.planConfig.tier", "$.tenantId"),
    ),
    "payload does not fit a user's model": never(
        body=text(envelope("REGISTRATION", {"seats": "many"})), errors=("$.email", "$.seats")
    ),
    "bad builder config": never(
        body=provisioning(builderConfig={"type": "FOO"}),
        detail="Invalid builder config provided.",
        errors=("$.builderConfig.type",),
    ),
    "bad builder config: illegal variable name": never(
        body=provisioning(builderConfig=override(**{"NOT-LEGAL": "1"})),
        detail="Invalid builder config provided.",
        errors=("$.builderConfig.config.environmentOverride.NOT-LEGAL",),
    ),
    "no such tier": never(
        body=provisioning(planConfig={"tier": "GOLD"}),
        detail="GOLD",
        errors=("$.planConfig.tier",),
    ),
    "no job identifier": never(
        body=provisioning(planConfig={"tier": "EMPTY"}),
        detail="Builder Job name not found in plan details",
        errors=("$.planConfig.tier",),
    ),
    "no such CodeBuild project": never(
        body=provisioning(planConfig={"tier": "GOLD"}),
        detail="gold-tenant",
        errors=("$",),
        settings={
            "tiers": Tiers(backend="static", static={"GOLD": {"jobIdentifier": "gold-tenant"}})
        },
    ),
    "same event key with another business body": Row(
        status=422,
        run="succeeded",
        before=earlier(MINE),
        body=text(envelope("MY_EVENT", {"a": 2})),
        detail="event-1",
    ),
    "bug in a handler": Row(status=500, run="retry", body=text(envelope("BUG", {}))),
    "bug in a handler, after runs.max_attempts": Row(
        status=500,
        run="failed",
        body=text(envelope("BUG", {})),
        settings={"runs": Runs(max_attempts=1)},
    ),
    "no credentials": Row(status=401, headers=CHALLENGE, settings=GUARDED),
    "wrong credentials": Row(
        status=401, headers=CHALLENGE, settings=GUARDED, sent={**JSON, "x-api-key": "key-3"}
    ),
    "a page of another site": Row(
        status=403, sent={**JSON, "Sec-Fetch-Site": "cross-site"}, detail="another origin"
    ),
    "a page of another site, before auth": Row(
        status=403, settings=GUARDED, sent={**JSON, "Sec-Fetch-Site": "cross-site"}
    ),
    "body over the limit": Row(
        status=413, body=text(MINE).ljust(MEBIBYTE + 1), detail=str(MEBIBYTE)
    ),
    "body over the limit after decompression": Row(
        status=413,
        body=gzip.compress(text(MINE).ljust(MEBIBYTE + 1)),
        sent={**JSON, "Content-Encoding": "gzip"},
        detail=str(MEBIBYTE),
    ),
    "wrong media type": Row(status=415, sent={"Content-Type": "text/plain"}, detail="text/plain"),
    "nothing there": Row(status=404, path="/event", detail="/event"),
    "another method": Row(status=405, method="PUT", detail="PUT", headers={"Allow": "POST"}),
}


@attrs.frozen
class Registration:
    email: str
    seats: int = 1


def users_registry() -> HandlerRegistry:
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def mine(event: Event[dict[str, Any]], run: Run) -> None:
        """Nothing to do."""

    @registry.on("REGISTRATION")
    async def register(event: Event[Registration], run: Run) -> None:
        """Nothing to do."""

    @registry.on("BANK_CLOSED")
    async def wait(event: Event[dict[str, Any]], run: Run) -> None:
        raise TemporaryError("The bank is closed until nine.", retry_after_s=41.2)

    @registry.on("BUG")
    async def fail(event: Event[dict[str, Any]], run: Run) -> None:
        raise KeyError("password-1234")

    return registry


@pytest.mark.parametrize("row", [pytest.param(row, id=case) for case, row in TABLE.items()])
async def test_each_case_has_one_answer_whichever_way_it_comes(
    row: Row,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By each entry point the answer has the row's status, body and headers, and a run with the
    row's status or none."""
    answers: dict[str, Answer] = {}
    for name, open_way in WAYS.items():
        ledger = CountingLedger()
        app = create_app(
            attrs.evolve(settings, **row.settings),
            extension=Extension(registry=users_registry(), **row.extension),
            ledger=ledger,
            clock=clock,
        )
        async with open_way(app) as way:
            if row.before is not None:
                await row.before(Scene(way, ledger, codebuild, monkeypatch))
            answer = await way.send(row.method, row.path, row.sent, row.body)
            answers[name] = answer
            assert answer.status == row.status, (name, answer.text)
            assert_headers(row, answer)
            if row.status == 200:
                assert answer.media_type == "application/json", name
                assert answer.json() == {"success": True}, name
                address = answer.headers["Location"]
            else:
                address = assert_problem(row, answer)
            if row.run is None:
                assert address == row.path, name
                assert ledger.commits == 0, name
            else:
                assert_run(row, answer, await read(way, row, address))
    over_http, *over_lambda = answers.values()
    for answer in over_lambda:
        assert telling(answer) == telling(over_http)
        assert answer.json() == over_http.json()


def telling(answer: Answer) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in TELLING}


def assert_headers(row: Row, answer: Answer) -> None:
    """The row's headers and no others, and a pause where the sender must retry."""
    expected = {"Content-Type", *row.headers}
    if row.status == 200:
        expected.add("Location")
    if row.status == 503:
        expected.add("Retry-After")
        pause = answer.headers["Retry-After"]
        assert re.fullmatch("[1-9][0-9]*", pause), pause
        assert int(pause) >= row.least_pause_s, pause
    found = {name for name, value in telling(answer).items() if value is not None}
    assert found == expected
    assert {name: answer.headers[name] for name in row.headers} == row.headers


def assert_problem(row: Row, answer: Answer) -> str:
    """Check every field of the problem; returns the address of its subject."""
    assert answer.media_type == "application/problem+json"
    problem = answer.json()
    paths = [error["path"] for error in problem.pop("errors", [])]
    assert sorted(paths) == sorted(row.errors)
    detail, instance = problem.pop("detail"), problem.pop("instance")
    assert problem == {
        "type": "about:blank",
        "title": HTTPStatus(row.status).phrase,
        "status": row.status,
    }
    assert detail
    assert (row.detail or "") in detail
    assert not [inside for inside in INSIDE if inside in answer.text]
    return str(instance)


async def read(way: Way, row: Row, address: str) -> dict[str, Any]:
    """The run at an address that an answer gave, as the same sender gets it."""
    assert re.fullmatch(r"/runs/[0-9a-f]{40}", address), address
    answer = await way.send("GET", address, row.sent, b"")
    assert answer.status == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


def assert_run(row: Row, answer: Answer, run: dict[str, Any]) -> None:
    """The run has the same error as the answer, except for a bug, whose cause it stores."""
    assert run["status"] == row.run
    if row.run in ("succeeded", "running"):
        assert run["error"] is None
    elif row.status == 500:
        assert run["error"]["type"] == "KeyError"
    else:
        problem = answer.json()
        assert run["error"]["message"] == problem["detail"]
        assert run["error"]["errors"] == problem.get("errors", [])
