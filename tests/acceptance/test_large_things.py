"""What is too large for the ledger is refused by name or cut, and not retried without end."""

import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
from aiohttp import ClientResponse

from orchestrator import Event, Extension, HandlerRegistry, PermanentError, Run, Settings
from orchestrator.core.events.json_text import MAX_VALUES
from orchestrator.settings import Callback
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope, provisioning_event
from tests.acceptance.answers import read_problem
from tests.acceptance.stories import (
    list_runs,
    open_ledger_table,
    over_dynamodb,
    state_of,
    with_full_tier,
)
from tests.acceptance.witness import Witness
from tests.conftest import Client, StartService

LONG = "x" * 450_000


@attrs.frozen
class Numbers:
    numbers: list[int]


def raising(error: Exception, depth: int) -> None:
    """Raise the error at the end of a chain of so many others."""
    if depth == 0:
        raise error
    try:
        raising(error, depth - 1)
    except Exception as cause:
        raise ValueError(LONG) from cause


@pytest.fixture
async def service(
    start_service: StartService,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
) -> AsyncIterator[Client]:
    """The service over DynamoDB, whose items may have 400 KB."""
    registry = HandlerRegistry()

    @registry.on("MISFIT")
    async def misfit(event: Event[Numbers], run: Run) -> None:
        raise AssertionError

    @registry.on("REFUSED")
    async def refused(event: Event[dict[str, Any]], run: Run) -> None:
        raise PermanentError(LONG)

    @registry.on("BUG")
    async def bug(event: Event[dict[str, Any]], run: Run) -> None:
        raising(KeyError(LONG), event.body["depth"])

    settings = attrs.evolve(
        with_full_tier(settings), runs=attrs.evolve(settings.runs, max_attempts=1)
    )
    async with open_ledger_table(monkeypatch):
        yield await start_service(over_dynamodb(settings), extension=Extension(registry=registry))


@pytest.mark.parametrize(
    ("event_type", "body", "status"),
    [
        ("MISFIT", {"numbers": ["none"] * 15_000}, 422),
        ("MISFIT", {"numbers": LONG}, 422),
        ("REFUSED", {}, 422),
        ("BUG", {"depth": 0}, 500),
        ("BUG", {"depth": 60}, 500),
        (
            "TENANT_PROVISIONING",
            {"tenantId": "t-1", "tier": "FULL", "builderConfig": {"type": LONG}},
            422,
        ),
    ],
)
async def test_a_very_long_error_is_cut(
    service: Client, event_type: str, body: dict[str, Any], status: int
) -> None:
    """A run with a very long error has failed, with the error cut, and holds no tenant."""
    await read_problem(await service.post(f"/events/{event_type}", json=body), status)
    (run,) = await list_runs(service)
    assert run["status"] == "failed"
    assert len(str(run["error"])) < 100_000
    assert await state_of(service, "t-1") == "unseen"


async def test_of_many_mismatches_the_first_are_named(service: Client) -> None:
    """Of many mismatches the first hundred are named, and that there are more."""
    answer = await service.post("/events/MISFIT", json={"numbers": ["none"] * 1000})
    errors = (await read_problem(answer, 422))["errors"]
    assert len(errors) == 101
    assert errors[99]["path"] == "$.numbers[99]"
    assert errors[100] == {"path": "$", "message": "and more"}


async def test_a_body_full_of_mismatches_is_refused_in_time(service: Client) -> None:
    """A body with as many values as are allowed, all of them mismatches, is refused before the
    deadline."""
    features = "[" + ",".join("1" * (MAX_VALUES - 10)) + "]"
    body = f'{{"tenantId": "t-1", "planConfig": {{"features": {features}}}}}'
    answer = await service.post(
        "/events/TENANT_PROVISIONING", data=body, headers={"Content-Type": "application/json"}
    )
    errors = (await read_problem(answer, 422))["errors"]
    assert errors[99] == {"path": "$.planConfig.features[99]", "message": "must be an object"}
    assert errors[100:] == [{"path": "$", "message": "and more"}]


def overridden(**override: str) -> dict[str, Any]:
    return provisioning_event(tier="FULL", override=override)


@pytest.mark.parametrize(
    ("make_event", "named"),
    [
        (lambda: provisioning_event(tier="FULL", tenant_id="t" * 513), "tenant's id"),
        (lambda: provisioning_event(tier="FULL", tenant_id="ä" * 257), "tenant's id"),
        (lambda: provisioning_event(tier=LONG), "tier"),
        (lambda: provisioning_event(tier="FULL", event_id=LONG), "id"),
        (lambda: {**provisioning_event(tier="FULL"), "source": LONG}, "source"),
        (lambda: overridden(secret=LONG, context="c"), "secret"),
        (lambda: overridden(secret="s", context=LONG), "operationId or context"),
        (lambda: envelope("TENANT_DEPLOYMENT_SUCCESS", {"tenantId": LONG}), "tenant's id"),
        (lambda: envelope("TENANT_DEPLOYMENT_SUCCESS", {"tenantId": "t", "tier": LONG}), "tier"),
    ],
)
async def test_a_very_long_name_is_refused(
    service: Client, make_event: Callable[[], dict[str, Any]], named: str
) -> None:
    """A name that is too long for a key or a field of an item is a 400 that says which."""
    problem = await read_problem(await service.post("/events", json=make_event()), 400)
    assert problem["detail"].startswith(f"The event's {named} is ")
    assert problem["detail"].endswith(" bytes long; at most 512 are allowed.")
    assert await list_runs(service) == []


@pytest.mark.parametrize("tenant_id", ["t" * 512, "ä" * 256, "𝄞" * 128])
async def test_the_longest_name_is_kept(service: Client, tenant_id: str) -> None:
    """The longest name is stored in all keys, whatever its letters."""
    event = provisioning_event(tier="FULL", tenant_id=tenant_id)
    assert (await service.post("/events", json=event)).status == 200
    (run,) = await list_runs(service, tenantId=tenant_id)
    assert run["status"] == "succeeded"


async def post(service: Client, event: dict[str, Any]) -> ClientResponse:
    """Post the event in UTF-8, as senders in other languages do."""
    data = io.BytesIO(json.dumps(event, ensure_ascii=False).encode())
    headers = {"Content-Type": "application/json"}
    return await service.post("/events", data=data, headers=headers)


@pytest.mark.parametrize("letter", ["x", "ä", "中"])
async def test_mismatches_in_other_letters_have_room(service: Client, letter: str) -> None:
    """Mismatches in other letters, which the ledger stores as escapes of six bytes each, fit into
    an item."""
    override = {f"{number}{letter * 800}": "v" for number in range(100)}
    event = provisioning_event(tenant_id="t-1", tier="FULL", override=override)
    await read_problem(await post(service, event), 422)
    (run,) = await list_runs(service)
    assert run["status"] == "failed"
    assert await state_of(service, "t-1") == "unseen"


@pytest.mark.parametrize("letter", ["x", "я"])
async def test_resources_in_other_letters_have_room(
    start_service: StartService,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    clock: ManualClock,
    letter: str,
) -> None:
    """Resources that don't fit into an item are left out: the operation ends, and its report
    waits."""
    builder = InMemoryBuilder("B")
    settings = attrs.evolve(
        with_full_tier(settings),
        callback=Callback(url="http://127.0.0.1:9/webhook", after="provisioning", timeout_s=1),
    )
    async with open_ledger_table(monkeypatch):
        service = await start_service(
            over_dynamodb(settings), extension=Extension(builders={"B": builder})
        )
        detail = {"tenantId": "t-1", "tier": "FULL", "secret": "s", "context": "c"}
        request = envelope("TENANT_PROVISIONING", {**detail, "builderConfig": {"type": "B"}})
        assert (await service.post("/events", json=request)).status == 200
        builder.finish(builder.started[0].job.id)
        resources = [{"type": "note", "metadata": {"text": letter * 90_000}}]
        detail_of_report = {"tenantId": "t-1", "resources": resources}
        report = envelope("TENANT_PROVISIONING_SUCCESS", detail_of_report, event_id="report")
        assert (await post(service, report)).status == 200
        clock.turn(70)
        assert (await service.post("/events/RECONCILE", json={})).status == 200
        assert (await (await service.get("/tenants/t-1")).json())["state"] == "provisioned"
