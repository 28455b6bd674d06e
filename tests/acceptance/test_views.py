"""The views of an operator over HTTP: senders, histories, and tenants that need attention."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, get_args

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import UnsupportedEventType
from orchestrator.core.ledger.lifecycle import NO_STATE, TenantState
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.records import OperationRecord, Record, RunRecord
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.intake.app_keys import ORCHESTRATOR
from orchestrator.intake.tenants_api import StateFilter
from orchestrator.settings import ApiKey, Auth, Operations
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import read_problem, read_run, read_success
from tests.acceptance.reports import end, provision
from tests.acceptance.stories import (
    DEPLOY,
    DEPROVISION,
    PROVISION,
    TENANT,
    WAYS_INTO,
    bring_into,
    read_tenant,
    replay,
    send,
    sweep,
    with_full_tier,
)
from tests.conftest import CODEBUILD, Client, StartService
from tests.contracts import samples
from tests.control_plane.receiver import ControlPlane

QUOTA = Fault.error("AccountLimitExceededException", "Cannot have more than 60 builds in queue")
KEY = "first-key-4711"
SCOPES = ["events:write", "metrics:read", "runs:read", "runs:write"]


def with_key(settings: Settings) -> Settings:
    chosen = Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,)))
    return attrs.evolve(with_full_tier(settings), auth=chosen)


async def read(service: Client, path: str, **query: str) -> dict[str, Any]:
    answer = await service.get(path, params=query)
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


async def bring(service: Client, state: str, tenant_id: str) -> None:
    """Bring one of several tenants into the state."""
    for number, event_type in enumerate(WAYS_INTO[state]):
        event_id = f"{tenant_id}-{number}"
        await read_success(await send(service, event_type, event_id, tenant_id=tenant_id))


async def operation_of(service: Client, tenant_id: str = TENANT) -> dict[str, Any]:
    """The tenant's last operation."""
    (last, *_) = (await read_tenant(service, tenant_id))["operations"]
    return await read(service, f"/operations/{last['operationId']}")


async def test_an_open_service_knows_no_sender(service: Client) -> None:
    """Without authentication `/me` has no name and all scopes."""
    assert await read(service, "/me") == {"name": None, "scopes": SCOPES}


async def test_a_sender_sees_the_own_name_and_scopes(
    start_service: StartService, settings: Settings
) -> None:
    """`/me` has name and scopes of the credentials; without any it is 401."""
    service = await start_service(with_key(settings))
    await read_problem(await service.get("/me"), 401)
    answer = await service.get("/me", headers={"x-api-key": KEY})
    assert await answer.json() == {"name": "api_key", "scopes": SCOPES}


async def test_the_names_of_who_replayed_and_cancelled_are_shown(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Who replayed or cancelled is shown with the attempt, with the operation's start, and in the
    timeline."""
    service = await start_service(with_key(settings))
    headers = {"x-api-key": KEY}
    body = {"tenantId": TENANT, "tier": "FULL"}
    event = envelope(PROVISION, body, event_id="request")
    address = (await service.post("/events", json=event, headers=headers)).headers["Location"]
    stopped = await service.post(
        f"/tenants/{TENANT}/cancel", json={"reason": "enough"}, headers=headers
    )
    assert stopped.status == 200
    forced = await service.post(f"{address}/replay", json={"force": True}, headers=headers)
    assert forced.status == 200
    tenant = await (await service.get(f"/tenants/{TENANT}", headers=headers)).json()
    run = await (await service.get(address, headers=headers)).json()
    assert run["by"] == "api_key"
    began = [(one["number"], one["replayed"], one["by"]) for one in run["attempts"]]
    assert began == [(1, False, None), (2, True, "api_key")]
    (operation,) = tenant["operations"]
    assert (operation["by"], operation["cancelledBy"]) == ("api_key", None)
    first, second = operation["starts"]
    assert (first["by"], first["cancelledBy"], first["succeeded"]) == (None, "api_key", False)
    assert first["reason"].startswith("Cancelled by api_key: enough.")
    assert (second["by"], second["number"], second["state"]) == ("api_key", 2, "open")
    assert first["job"]["id"] != second["job"]["id"]
    by_type = {entry["eventType"]: entry for entry in tenant["timeline"]}
    assert by_type[f"{PROVISION}_FAILURE"]["cancelledBy"] == "api_key"
    assert by_type[PROVISION]["attempts"] == run["attempts"]


async def test_an_open_service_keeps_that_it_was_replayed(either: Client) -> None:
    """Without authentication an attempt is recorded as a replay without a name."""
    await bring_into(either, "provision_failed")
    operation = await operation_of(either)
    await read_success(await replay(either, f"/runs/{operation['runId']}", force=True))
    run = await read(either, f"/runs/{operation['runId']}")
    assert [(one["replayed"], one["by"]) for one in run["attempts"]] == [
        (False, None),
        (True, None),
    ]


async def test_an_operation_has_its_starts_and_runs(either: Client, clock: ManualClock) -> None:
    """An operation has its starts, and the runs that opened and ended it."""
    await read_success(await send(either, PROVISION, "request"))
    clock.turn(90)
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome"))
    before = await operation_of(either)
    clock.turn(90)
    await read_success(await replay(either, f"/runs/{before['runId']}", force=True))
    operation = await operation_of(either)
    assert operation["operationId"] == before["operationId"]
    assert (before["state"], before["succeeded"], before["deadlineAt"]) == ("over", False, None)
    assert (operation["state"], operation["startNumber"]) == ("open", 2)
    first, second = operation["starts"]
    (ended,) = before["starts"]
    assert first == ended
    assert (first["jobSince"], first["endedAt"]) == (before["jobSince"], before["endedAt"])
    assert second["endedAt"] is None
    types = [run["eventType"] for run in operation["runs"]]
    assert types[0] == PROVISION
    assert set(types[1:]) == {f"{PROVISION}_FAILURE"}
    assert operation["runId"] == operation["runs"][0]["runId"]
    problem = await read_problem(await either.get("/operations/nobody's"), 404)
    assert problem["detail"] == 'There is no operation "nobody\'s".'


async def test_the_log_of_a_running_job_is_linked(either: Client) -> None:
    """A running build links to its page, since CodeBuild has no log yet when it answers the start;
    after the end all links lead to the log."""
    await read_success(await send(either, PROVISION, "request"))
    tenant = await read_tenant(either)
    link = tenant["operation"]["job"]["logUrl"]
    job_id = tenant["operation"]["job"]["id"].replace(":", "%3A")
    assert link.endswith(
        f"/codebuild/123456789012/projects/standard-tenant/build/{job_id}/log?region=us-east-1"
    )
    assert [entry["link"] for entry in tenant["timeline"]] == [link]

    await read_success(await send(either, f"{PROVISION}_SUCCESS", "result"))
    build = next(iter(either.app[CODEBUILD].builds.values()))
    tenant = await read_tenant(either)
    log = build.as_document()["logs"]["deepLink"]
    (start,) = tenant["operations"][-1]["starts"]
    assert start["job"]["logUrl"] == log
    assert {entry["link"] for entry in tenant["timeline"]} - {None} == {log}


class MeetingLedger(InMemoryLedger):
    """A ledger whose first three reads each wait for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.have_met = asyncio.Event()

    async def meet(self, name: str) -> None:
        self.reads.append(name)
        if len(self.reads) == 3:
            self.have_met.set()
        await asyncio.wait_for(self.have_met.wait(), 10)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        await self.meet("load")
        return await super().load(keys)

    async def list_runs(self, **query: Any) -> Page[RunRecord]:
        await self.meet("runs")
        return await super().list_runs(**query)

    async def list_operations(self, **query: Any) -> Page[OperationRecord]:
        await self.meet("operations")
        return await super().list_operations(**query)


async def test_a_tenants_parts_are_read_at_once(start_service: StartService) -> None:
    """The tenant, its runs and its operations are read concurrently."""
    ledger = MeetingLedger()
    await InMemoryLedger.commit(ledger, [samples.tenant(TENANT)], unchanged={})
    service = await start_service(ledger=ledger)
    assert (await read(service, f"/tenants/{TENANT}"))["state"] == "active"
    assert sorted(ledger.reads) == ["load", "operations", "runs"]


async def test_a_report_shows_its_tries(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """A report shows when each try was and what was answered."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    await control_plane.fail(503)
    await end(service, codebuild)
    first, next_at = clock.now(), clock.now() + timedelta(seconds=5)
    report = (await operation_of(service))["report"]
    assert report == {
        "url": settings_with_webhook.callback.url,
        "count": 1,
        "tries": [{"at": first.isoformat(), "answer": "503"}],
        "doneAt": None,
        "trouble": "The report was not delivered yet: it answered 503.",
        "nextAt": next_at.isoformat(),
    }
    clock.turn(5)
    await control_plane.turn_clock(clock.now())
    await sweep(service)
    report = (await operation_of(service))["report"]
    assert [one["answer"] for one in report["tries"]] == ["503", "204"]
    assert (report["count"], report["doneAt"]) == (2, next_at.isoformat())
    assert (report["nextAt"], report["trouble"]) == (None, None)


async def test_operations_have_pages(either: Client, clock: ManualClock) -> None:
    """Operations are paged by 20, the last opened first."""
    await bring_into(either, "provisioned")
    for number in range(11):
        for event_type in (DEPLOY, f"{DEPLOY}_SUCCESS") * 2:
            clock.turn(1)
            await read_success(await send(either, event_type, f"{number}-{clock.now()}"))
    first = await read(either, f"/tenants/{TENANT}")
    cursor = first["operationsCursor"]
    second = await read(either, f"/tenants/{TENANT}", operationsCursor=cursor)
    pages = [first["operations"], second["operations"]]
    assert [len(page) for page in pages] == [20, 3]
    assert second["operationsCursor"] is None
    opened = [one["openedAt"] for page in pages for one in page]
    assert opened == sorted(opened, reverse=True)
    assert len({one["operationId"] for page in pages for one in page}) == 23


async def test_tenants_that_need_attention_come_first(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """Tenants that failed or never began come first, then those that wait for a job, those that
    have one, and the rest."""
    service = await start_service(with_full_tier(settings))
    for state in ("active", "deployment_failed", "provisioned"):
        await bring(service, state, f"is {state}")
        clock.turn(1)
    refused = await send(service, PROVISION, "refused", tenant_id="is none", tier="GOLD")
    await read_problem(refused, 422)
    await read_success(await send(service, PROVISION, "runs", tenant_id="runs"))
    codebuild.inject("StartBuild", QUOTA)
    clock.turn(1)
    assert (await send(service, PROVISION, "waits", tenant_id="waits")).status == 503
    items = (await read(service, "/tenants", sort="attention"))["items"]
    assert [item["tenantId"] for item in items] == [
        *("is none", "is deployment_failed"),
        *("waits", "runs"),
        *("is provisioned", "is active"),
    ]
    by_id = {item["tenantId"]: item for item in items}
    assert {name for name, item in by_id.items() if item["isSlow"]} == {"waits"}
    assert "Cannot have more than 60 builds" in by_id["waits"]["reason"]
    assert by_id["waits"]["operation"]["reason"] == by_id["waits"]["reason"]
    assert by_id["is none"]["reason"] == (await refused.json(content_type=None))["detail"]
    assert by_id["is none"]["lastOperation"]["state"] == "given_back"
    assert by_id["is deployment_failed"]["lastOperation"]["kind"] == "deployment"
    clock.turn(Operations().deadline_s / 2)
    items = (await read(service, "/tenants", sort="attention"))["items"]
    assert {item["tenantId"] for item in items if item["isSlow"]} == {"waits", "runs"}


async def test_the_overview_counts(either: Client, clock: ManualClock) -> None:
    """The overview counts the tenants of each state, those that never began and failed runs, and
    shows the oldest open operation."""
    empty = {"count": 0, "capped": False}
    overview = await read(either, "/overview")
    assert overview["states"] == dict.fromkeys((*TenantState, NO_STATE), empty)
    assert (overview["failedRuns"], overview["oldestOperation"]) == (empty, None)
    refused = await send(either, PROVISION, "refused", tenant_id="t-0", tier="GOLD")
    await read_problem(refused, 422)
    for number, state in enumerate(("active", "deploying", "deploying"), 1):
        clock.turn(1)
        await bring(either, state, f"t-{number}")
    overview = await read(either, "/overview")
    counted = {state: one["count"] for state, one in overview["states"].items() if one["count"]}
    assert counted == {"active": 1, "deploying": 2, "none": 1}
    assert overview["failedRuns"] == {"count": 1, "capped": False}
    oldest = overview["oldestOperation"]
    assert (oldest["tenantId"], oldest["kind"], oldest["state"]) == ("t-2", "deployment", "open")


async def test_tenants_are_found_by_the_beginning_of_their_ids(either: Client) -> None:
    """A prefix finds tenants in any state, or in the given one."""
    for tenant_id in ("acme", "acme-2", "beta"):
        await bring(either, "provisioned", tenant_id)
    for query in ({"prefix": "ac"}, {"prefix": "ac", "state": "provisioned"}):
        items = (await read(either, "/tenants", **query))["items"]
        assert [item["tenantId"] for item in items] == ["acme", "acme-2"]
    assert (await read(either, "/tenants", prefix="ac", state="active"))["items"] == []


async def test_a_waiting_run_shows_what_it_waits_for(either: Client, clock: ManualClock) -> None:
    """A waiting run shows the operation that holds its tenant, and how often and how long it
    waited."""
    await read_success(await send(either, PROVISION, "request"))
    held = (await read_tenant(either))["operation"]["operationId"]
    clock.turn(1)
    answer = await send(either, DEPROVISION, "waits")
    address = (await answer.json(content_type=None))["instance"]
    run = await read_run(either, address)
    assert (run["waitsFor"], run["waits"]) == ({"operationId": held, "runId": None}, [])
    clock.turn(15)
    await sweep(either)
    run = await read_run(either, address)
    assert run["waits"] == [{"kind": "tenant", "count": 1, "seconds": 15.0}]
    assert [one["how"] for one in run["attempts"]] == ["retry", "retry"]
    (waiting, _) = (await read_tenant(either))["timeline"]
    assert waiting["waitsFor"] == run["waitsFor"]
    (listed,) = (await read(either, "/tenants"))["items"]
    assert listed["waitingCount"] == 1


async def test_a_step_has_its_times(start_service: StartService, clock: ManualClock) -> None:
    """A step shows when it began and when its result was recorded, in its run and in the tenant's
    timeline."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        async def take_time() -> None:
            clock.turn(3)

        await run.step("reserve", take_time)
        raise TemporaryError("not yet")

    service = await start_service(extension=Extension(registry=registry))
    began = clock.now()
    event = envelope("ORDER", {"tenantId": TENANT}, event_id="e")
    answer = await service.post("/events", json=event)
    run = await read_run(service, (await answer.json(content_type=None))["instance"])
    ended = began + timedelta(seconds=3)
    (entry,) = (await read_tenant(service))["timeline"]
    assert (
        run["steps"]
        == entry["steps"]
        == [
            {
                "name": "reserve",
                "startedAt": began.isoformat(),
                "recordedAt": ended.isoformat(),
            }
        ]
    )


async def test_runs_are_listed_by_time(either: Client, clock: ManualClock) -> None:
    """Runs are listed from `since` on and before `until`; a time without an offset is 400."""
    seen = []
    for number in range(4):
        await bring(either, "provisioning", f"t-{number}")
        seen.append(clock.now().isoformat())
        clock.turn(60)
    page = await read(either, "/runs", since=seen[1], until=seen[3])
    assert [run["tenantId"] for run in page["items"]] == ["t-2", "t-1"]
    rest = await read(either, "/runs", since=seen[1].replace("+00:00", "Z"), limit="2")
    assert [run["tenantId"] for run in rest["items"]] == ["t-3", "t-2"]
    last = await read(either, "/runs", since=seen[1], limit="2", cursor=rest["cursor"])
    assert ([run["tenantId"] for run in last["items"]], last["cursor"]) == (["t-1"], None)
    for wrong, said in (
        ("yesterday", "since"),
        ("2026-11-20T09:14:03", "has no offset"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00+01:00"),
        ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59-01:00"),
    ):
        answer = await either.get("/runs", params={"since": wrong})
        assert said in (await read_problem(answer, 400))["detail"]


async def test_a_payload_is_shown_as_it_came(either: Client) -> None:
    """A payload is shown with its wrapper and large numbers, and without its secrets."""
    override = {"secret": "hunter2", "context": "c-1", "nested": '{"password": "hunter2"}'}
    event = provisioning_event(tenant_id=TENANT, tier="FULL", override=override)
    event["detail"]["tenant"]["account"] = 9007199254740993
    event["detail"]["tenant"]["name"] = "Zoë 漢字"
    address = await read_success(await either.post("/events", json=event))
    answer = await either.get(f"{address}/payload")
    assert (answer.status, answer.content_type) == (200, "application/json")
    text = await answer.text()
    assert '"account": 9007199254740993' in text
    assert "Zoë 漢字" in text
    assert "hunter2" not in text
    assert (await answer.json())["detail"]["tenant"] == event["detail"]["tenant"]
    problem = await read_problem(await either.get("/runs/nobody/payload"), 404)
    assert problem["detail"] == "There is no run 'nobody'."


class CountingPool(ThreadPoolExecutor):
    """A thread pool that counts its tasks."""

    tasks = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.tasks += 1
        return super().submit(*args, **kwargs)


async def test_a_payload_is_prepared_in_a_thread(service: Client) -> None:
    """A payload is prepared in a thread, so that the event loop handles other requests
    meanwhile."""
    with CountingPool(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        unsupported = await read_problem(await service.post("/events/ODD", json={"a": 1}), 400)
        assert pool.tasks == 0
        answer = await service.get(f"{unsupported['instance']}/payload")
        assert (answer.status, await answer.json()) == (200, {"a": 1})
        assert pool.tasks == 1


async def test_half_a_character_is_shown_escaped(service: Client) -> None:
    """Half of a surrogate pair, which a library call may send and UTF-8 can't encode, is shown
    escaped."""
    with pytest.raises(UnsupportedEventType) as refused:
        await service.app[ORCHESTRATOR].handle_event("ODD", {"a": "Zoë \ud83d"})
    answer = await service.get(f"/runs/{refused.value.run_id}/payload")
    assert (answer.status, await answer.json()) == (200, {"a": "Zoë \ud83d"})


def test_a_query_knows_each_state() -> None:
    """A query of tenants may name each state, and that a tenant has none."""
    assert set(get_args(StateFilter)) == {NO_STATE, *TenantState}
