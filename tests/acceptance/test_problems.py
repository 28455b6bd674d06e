"""Events that can't be handled, over HTTP: each answer is a problem that EventBridge
understands."""

import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from yarl import URL

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Runs
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import read_problem, read_run, read_success
from tests.conftest import Client, StartService

MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json; charset=utf-8"}
GZIPPED = {**JSON, "Content-Encoding": "gzip"}
EVENT = json.dumps(envelope("MY_EVENT", {"a": 1})).encode()
PATH = "/events/MY_EVENT"
PROVISIONING = "/events/TENANT_PROVISIONING"


@pytest.fixture
async def service(start_service: StartService) -> Client:
    """The service with a handler of MY_EVENT that does nothing."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        """Nothing to do."""

    return await start_service(extension=Extension(registry=registry))


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/tenants/%7Bx%7D", "/tenants/%7Bx%7D"),
        ("/tenants/a%20b%0Ac", "/tenants/a%20b%0Ac"),
        ("/tenants/%C3%A4%25", "/tenants/%C3%A4%25"),
        ("/tenants/a:b@c", "/tenants/a:b@c"),
    ],
)
async def test_the_instance_is_a_uri_reference(service: Client, path: str, instance: str) -> None:
    """`instance` is a valid URI reference, whatever characters the id has (RFC 9457, section
    3.1.5)."""
    answer = await service.get(URL(path, encoded=True))
    assert (await read_problem(answer, 404))["instance"] == instance


async def test_a_refused_method_names_the_allowed_ones(service: Client) -> None:
    """A refused method's sentence names the allowed one, or several."""
    several = await read_problem(await service.put("/runs"), 405)
    assert several["detail"] == "PUT is not allowed at /runs: use GET or HEAD."
    one = await read_problem(await service.put("/events"), 405)
    assert one["detail"] == "PUT is not allowed at /events: use POST."


# Requests that are no events: no run is stored


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"detail-type": "MY_EV', id="broken JSON"),
        pytest.param(b'{"a": 1} {"b": 2}', id="two values"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param(b'"just text"', id="bare string"),
        pytest.param(b"[1, 2]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"12", id="number"),
        pytest.param(b"", id="empty"),
        pytest.param(b"  \n", id="blank"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="nested too deeply"),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/events"])
async def test_a_body_that_is_no_json_object_is_refused(
    service: Client, path: str, body: bytes
) -> None:
    """A body that is no JSON object is a 400 about the request, without a run."""
    answer = await service.post(path, data=body, headers=JSON)
    problem = await read_problem(answer, 400)
    assert problem["instance"] == path


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"a": 1}, id="no type"),
        pytest.param(envelope("MY_EVENT", {}) | {"detail": "text"}, id="detail is text"),
        pytest.param(envelope("MY_EVENT", {}) | {"detail": None}, id="detail is null"),
        pytest.param(envelope("", {}), id="empty type"),
        pytest.param(envelope("MY_EVENT", {}) | {"detail-type": 7}, id="type is a number"),
        pytest.param(envelope("MY_EVENT", {}) | {"id": 7}, id="id is a number"),
        pytest.param(envelope("MY_EVENT", {}) | {"time": "yesterday"}, id="time is no time"),
        pytest.param(
            envelope("MY_EVENT", {}) | {"time": "0001-01-01T00:00:00+23:00"},
            id="time before all time",
        ),
        pytest.param(envelope("X" * 129, {}), id="type longer than EventBridge's"),
        pytest.param({"specversion": "1.0", "type": "MY_EVENT", "data": {}}, id="no source, id"),
        pytest.param(
            {"specversion": "0.3", "type": "MY_EVENT", "source": "s", "id": "1", "data": {}},
            id="old CloudEvent",
        ),
    ],
)
async def test_a_broken_envelope_is_no_event(service: Client, body: dict[str, Any]) -> None:
    """A broken envelope is a 400 about the request, without a run."""
    problem = await read_problem(await service.post("/events", json=body), 400)
    assert problem["instance"] == "/events"


async def test_path_and_envelope_must_agree(service: Client) -> None:
    """Different types in path and envelope are a 400 that names both."""
    answer = await service.post(PATH, json=envelope("TENANT_PROVISIONING", {}))
    problem = await read_problem(answer, 400)
    assert problem["instance"] == PATH
    assert "MY_EVENT" in problem["detail"]
    assert "TENANT_PROVISIONING" in problem["detail"]


@pytest.mark.parametrize("path_type", ["BUILD_STATE_CHANGE", "CodeBuild%20Build%20State%20Change"])
@pytest.mark.parametrize("named", ["BUILD_STATE_CHANGE", "CodeBuild Build State Change"])
async def test_path_and_envelope_agree_in_each_others_names(
    service: Client, path_type: str, named: str
) -> None:
    """An alias in the path and its type in the envelope, or the reverse, are the same type."""
    answer = await service.post(f"/events/{path_type}", json=envelope(named, {}))
    assert answer.status == 200


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded"]
)
async def test_another_media_type_is_refused(service: Client, media_type: str) -> None:
    """Another media type is a 415 that names it."""
    answer = await service.post(PATH, data=b"{}", headers={"Content-Type": media_type})
    problem = await read_problem(answer, 415)
    assert media_type in problem["detail"]


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "application/ld+json"]
)
async def test_json_by_another_name_is_accepted(service: Client, media_type: str) -> None:
    """Media types of JSON with parameters or `+json` are accepted."""
    answer = await service.post(PATH, data=b"{}", headers={"Content-Type": media_type})
    await read_success(answer)


async def test_a_body_without_media_type_is_accepted(service: Client) -> None:
    """A body without a media type is read as JSON."""
    answer = await service.post(PATH, data=b"{}", skip_auto_headers=["Content-Type"])
    await read_success(answer)


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """A body without a Content-Length."""
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"{}".ljust(MEBIBYTE + 1), JSON, id="plain"),
        pytest.param(gzip.compress(b"{}".ljust(MEBIBYTE + 1)), GZIPPED, id="compressed"),
        pytest.param(gzip.compress(b"{}".ljust(64 * MEBIBYTE), 1), GZIPPED, id="gzip bomb"),
    ],
)
@pytest.mark.parametrize("announced", [True, False], ids=["length", "chunked"])
async def test_a_body_over_the_limit_is_refused(
    service: Client, body: bytes, headers: dict[str, str], announced: bool
) -> None:
    """A body that is over the limit after decompression is 413."""
    data = io.BytesIO(body) if announced else chunks(body)
    answer = await service.post(PATH, data=data, headers=headers)
    problem = await read_problem(answer, 413)
    assert str(MEBIBYTE) in problem["detail"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"{}".ljust(MEBIBYTE), JSON, id="plain"),
        pytest.param(gzip.compress(b"{}".ljust(MEBIBYTE)), GZIPPED, id="compressed"),
    ],
)
async def test_a_body_at_the_limit_is_handled(
    service: Client, body: bytes, headers: dict[str, str]
) -> None:
    """A body of 1 MiB, EventBridge's own limit, is handled."""
    await read_success(await service.post(PATH, data=io.BytesIO(body), headers=headers))


async def test_a_body_that_is_not_as_encoded_as_it_says_is_refused(service: Client) -> None:
    """A body that doesn't have its encoding is a 400 that says so, and no 500."""
    answer = await service.post(PATH, data=b"not gzip", headers=GZIPPED)
    problem = await read_problem(answer, 400)
    assert problem["instance"] == PATH


# Events that can never be handled as they are: a failed run is stored


@pytest.mark.parametrize("path", ["/events/TENANT_PARTY", "/events"])
async def test_an_unsupported_type_is_kept_as_a_failed_run(service: Client, path: str) -> None:
    """An unsupported type is a 400 with arc-saas' sentence, and a failed run with the same."""
    answer = await service.post(path, json=envelope("TENANT_PARTY", {"a": 1}))
    problem = await read_problem(answer, 400)
    assert problem["detail"] == "Unsupported event type: TENANT_PARTY"
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["eventType"]) == ("failed", "TENANT_PARTY")
    assert run["error"]["message"] == problem["detail"]


async def test_an_unsupported_event_is_handled_once_a_handler_exists(
    start_service: StartService, clock: ManualClock
) -> None:
    """The redelivery to a release with a handler is the next attempt of the same run."""
    ledger = InMemoryLedger()
    event = envelope("MY_EVENT", {"a": 1})
    old = await start_service(ledger=ledger)
    problem = await read_problem(await old.post("/events", json=event), 400)

    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        """Nothing to do."""

    new = await start_service(ledger=ledger, extension=Extension(registry=registry))
    assert await read_success(await new.post("/events", json=event)) == problem["instance"]
    run = await read_run(new, problem["instance"])
    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 2, None)


def unfit(**changes: Any) -> dict[str, Any]:
    """A provisioning event's detail with other fields; None leaves one out."""
    detail = {**provisioning_event()["detail"], **changes}
    return {name: value for name, value in detail.items() if value is not None}


def override(**values: Any) -> dict[str, Any]:
    return {"type": "CODE_BUILD", "config": {"environmentOverride": values}}


@pytest.mark.parametrize(
    ("body", "detail", "paths"),
    [
        pytest.param(
            unfit(planConfig={"tier": "GOLD"}), "'GOLD'", ["$.planConfig.tier"], id="unknown tier"
        ),
        pytest.param(unfit(planConfig={}), "tier", ["$.planConfig.tier"], id="no tier"),
        pytest.param(
            unfit(planConfig={"tier": "EMPTY"}),
            "Builder Job name not found in plan details",
            ["$.planConfig.tier"],
            id="tier without job identifier",
        ),
        pytest.param(
            unfit(builderConfig={"type": "FOO"}),
            "Invalid builder config provided.",
            ["$.builderConfig.type"],
            id="unknown builder",
        ),
        pytest.param(
            unfit(builderConfig=override(**{"NOT-LEGAL": "1", "FINE": "2"})),
            "Invalid builder config provided.",
            ["$.builderConfig.config.environmentOverride.NOT-LEGAL"],
            id="illegal override name",
        ),
        pytest.param(
            unfit(builderConfig=override(CODEBUILD_SRC_DIR="/")),
            "Invalid builder config provided.",
            ["$.builderConfig.config.environmentOverride.CODEBUILD_SRC_DIR"],
            id="reserved override name",
        ),
        pytest.param(unfit(tenant=None), "tenant", ["$"], id="no tenant"),
        pytest.param(
            unfit(tenant={"name": "Bluebird"}), "tenant", ["$.tenant.id"], id="tenant without id"
        ),
        pytest.param(unfit(tenant={"id": 7}), "tenant", ["$.tenant.id"], id="id is a number"),
        pytest.param(unfit(tenant={"id": ""}), "tenant", ["$.tenant.id"], id="id is empty"),
        pytest.param(
            unfit(planConfig={"tier": 1}, builderConfig="CODE_BUILD", tenant=[], tenantId=7),
            "does not fit",
            ["$.planConfig.tier", "$.builderConfig", "$.tenant", "$.tenantId"],
            id="every mismatch at once",
        ),
    ],
)
async def test_a_permanent_failure_is_kept_as_a_failed_run(
    service: Client,
    codebuild: CodeBuildStandIn,
    body: dict[str, Any],
    detail: str,
    paths: list[str],
) -> None:
    """A permanent failure is a 422 with reason and path, and a failed run with the same; nothing
    was started."""
    problem = await read_problem(await service.post(PROVISIONING, json=body), 422)
    assert detail in problem["detail"]
    assert sorted(error["path"] for error in problem.get("errors", [])) == sorted(paths)
    assert all(error["message"] for error in problem.get("errors", []))
    run = await read_run(service, problem["instance"])
    assert run["status"] == "failed"
    assert run["error"]["message"] == problem["detail"]
    assert run["error"]["errors"] == problem.get("errors", [])
    assert not codebuild.calls


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (unfit(planConfig={"tier": "EMPTY"}), "Builder Job name not found in plan details"),
        (unfit(builderConfig={"type": "FOO"}), "Invalid builder config provided."),
    ],
)
async def test_the_ancestors_words_are_kept(
    service: Client, body: dict[str, Any], detail: str
) -> None:
    """arc-saas' sentences are kept, so that alarms that search for them continue to work."""
    problem = await read_problem(await service.post(PROVISIONING, json=body), 422)
    assert problem["detail"] == detail


# Exceptions of handlers


@pytest.mark.parametrize(
    ("raised", "status", "run_status", "pause"),
    [
        (PermanentError("no such plan"), 422, "failed", None),
        (TemporaryError("the bank is closed"), 503, "retry", None),
        (TemporaryError("the bank is closed", retry_after_s=41.2), 503, "retry", "42"),
        (TemporaryError("the bank is closed", retry_after_s=0), 503, "retry", "1"),
        (TemporaryError("the bank is closed", retry_after_s=-9), 503, "retry", "1"),
    ],
)
async def test_the_exception_of_a_handler_decides_the_status(
    start_service: StartService,
    raised: Exception,
    status: int,
    run_status: str,
    pause: str | None,
) -> None:
    """A permanent error is 422, a temporary one 503 with a pause of at least one second."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        raise raised

    service = await start_service(extension=Extension(registry=registry))
    answer = await service.post(PATH, json={})
    problem = await read_problem(answer, status)
    assert problem["detail"] == str(raised)
    assert pause in (None, answer.headers.get("Retry-After"))
    assert (await read_run(service, problem["instance"]))["status"] == run_status


async def test_a_bug_in_a_handler_shows_nothing_of_the_inside(
    start_service: StartService, settings: Settings
) -> None:
    """A bug is a 500 without details at each attempt, and a run in `retry`, which is `failed` after
    the last allowed attempt."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        raise KeyError("password-1234")

    service = await start_service(
        attrs.evolve(settings, runs=Runs(max_attempts=2)), extension=Extension(registry=registry)
    )
    for attempt, run_status in ((1, "retry"), (2, "failed")):
        answer = await service.post("/events", json=envelope("MY_EVENT", {}))
        problem = await read_problem(answer, 500)
        for inside in ("password-1234", "KeyError", "Traceback", ".py"):
            assert inside not in json.dumps(problem)
        run = await read_run(service, problem["instance"])
        assert (run["attempt"], run["status"]) == (attempt, run_status)
        assert run["error"]["type"] == "KeyError"


async def test_a_bug_before_any_run_shows_nothing_of_the_inside(
    start_service: StartService,
) -> None:
    """An exception of a user's own orchestrator is a 500 about the request, without details."""

    class Broken:
        async def handle_event(self, event_type: str, body: Any) -> object:
            raise KeyError("password-1234")

    service = await start_service(extension=Extension(orchestrator=Broken()))
    answer = await service.post(PATH, json={})
    problem = await read_problem(answer, 500)
    assert problem["instance"] == PATH
    for inside in ("password-1234", "KeyError", "Traceback"):
        assert inside not in json.dumps(problem)


# Addresses and methods


@pytest.mark.parametrize("path", ["/nowhere", "/runs/unknown", "/events/MY_EVENT/more", "/events/"])
async def test_nothing_is_there(service: Client, path: str) -> None:
    """An unknown path is a 404 about the request."""
    async with service.get(path) as answer:
        problem = await read_problem(answer, 404)
    assert problem["instance"] == path


@pytest.mark.parametrize(
    "path",
    [
        "/tenants/a%2Fb",
        "/tenants/a%20b",
        "/tenants/%3F",
        "/tenants/100%25",
        "/runs/%E2%82%AC",
        "/%FF",
    ],
)
async def test_an_instance_is_an_address(service: Client, path: str) -> None:
    """`instance` is the address of the request, in which characters with a meaning in URLs stay
    encoded."""
    async with service.get(URL(path, encoded=True)) as answer:
        assert (await read_problem(answer, 404))["instance"] == path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/events", "POST"),
        ("PUT", PATH, "POST"),
        ("DELETE", "/healthz", "GET,HEAD"),
    ],
)
async def test_a_wrong_method_is_405_with_the_allowed_ones(
    service: Client, method: str, path: str, allowed: str
) -> None:
    """A wrong method is 405, with the allowed ones in the header `Allow`."""
    async with service.request(method, path) as answer:
        problem = await read_problem(answer, 405)
        assert sorted(answer.headers["Allow"].split(",")) == allowed.split(",")
    assert problem["instance"] == path


async def test_the_headers_of_eventbridge_disturb_nothing(service: Client) -> None:
    """An API destination's request, which asks for a range and compression, is answered as a
    whole."""
    headers = {
        **JSON,
        "User-Agent": "Amazon/EventBridge/ApiDestinations",
        "Range": "bytes=0-1048575",
        "Accept-Encoding": "gzip,deflate",
        "Connection": "close",
    }
    answer = await service.post("/events", data=EVENT, headers=headers)
    await read_success(answer)
    refused = await service.post(PATH, data=b"[]", headers=headers)
    await read_problem(refused, 400)
