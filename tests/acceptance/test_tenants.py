"""The states of tenants and their timelines, over HTTP."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Operations
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.stories import (
    DEPLOY,
    DEPROVISION,
    PROVISION,
    TENANT,
    WAYS_INTO,
    bring_into,
    read_tenant,
    send,
    with_full_tier,
)
from tests.conftest import Client, StartService

SECRET, CONTEXT = "the-secret-8d1f", "the-context-77aa"


async def page_of(service: Client, path: str = "/tenants", **query: Any) -> dict[str, Any]:
    answer = await service.get(path, params=query)
    assert answer.status == 200, await answer.text()
    page: dict[str, Any] = await answer.json()
    return page


async def add(service: Client, *tenant_ids: str, outcome: str = "SUCCESS") -> None:
    """Tenants that are provisioned by an outcome event alone."""
    for tenant_id in tenant_ids:
        event_type = f"{PROVISION}_{outcome}"
        event_id = f"outcome-{tenant_id}"
        await read_success(await send(service, event_type, event_id, tenant_id=tenant_id))


async def test_there_are_no_tenants_yet(either: Client) -> None:
    """Without tenants the page is empty and the last one; an unknown tenant is 404."""
    assert await page_of(either) == {"items": [], "cursor": None}
    problem = await read_problem(await either.get(f"/tenants/{TENANT}"), 404)
    assert problem["detail"] == f"There is no tenant '{TENANT}'."


async def test_a_tenant_with_an_operation_under_way(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A tenant is shown with each of its fields, its operation with the job, and its timeline."""
    address = await read_success(await send(either, PROVISION, "request"))
    now, run_id = clock.now().isoformat(), address.removeprefix("/runs/")
    build = only_build(codebuild)
    tenant = await read_tenant(either)
    operation, (listed,) = tenant.pop("operation"), tenant.pop("operations")
    started = f"The job {build.id} was started on CODE_BUILD."
    console = "https://us-east-1.console.aws.amazon.com/codesuite/codebuild/123456789012"
    page = f"{console}/projects/standard-tenant/build/{quote(build.id)}/log?region=us-east-1"
    assert tenant == {
        "tenantId": TENANT,
        "state": "provisioning",
        "changedAt": now,
        "tier": "FULL",
        "lastOperation": None,
        "isSlow": False,
        "waitingCount": 0,
        "reason": None,
        "waiting": [],
        "operationsCursor": None,
        "timeline": [
            {
                "at": now,
                "eventType": PROVISION,
                "status": "succeeded",
                "reason": started,
                "runId": run_id,
                "link": page,
                "operationId": operation["operationId"],
                "outcomeOf": None,
                "duplicateOf": None,
                "endedAt": now,
                "dueAt": None,
                "waitsFor": None,
                "attempts": [
                    {
                        "number": 1,
                        "startedAt": now,
                        "endedAt": now,
                        "how": "succeeded",
                        "reason": started,
                        "replayed": False,
                        "by": None,
                    }
                ],
                "steps": [],
                "cancelledBy": None,
            }
        ],
        "cursor": None,
    }
    assert listed == {**operation, "starts": listed["starts"], "report": None}
    assert [start["number"] for start in listed["starts"]] == [1]
    assert len(operation.pop("operationId")) == 40
    deadline = clock.now() + timedelta(seconds=Operations().deadline_s)
    assert operation == {
        "tenantId": TENANT,
        "kind": "provisioning",
        "state": "open",
        "tier": "FULL",
        "runId": run_id,
        "outcomeRunId": None,
        "startNumber": 1,
        "openedAt": now,
        "endedAt": None,
        "succeeded": None,
        "jobSince": now,
        "deadlineAt": deadline.isoformat(),
        "by": None,
        "cancelledBy": None,
        "job": {
            "id": build.id,
            "builder": "CODE_BUILD",
            "jobIdentifier": "standard-tenant",
            "logUrl": page,
            "request": None,
        },
        "reason": None,
    }


async def test_a_tenant_in_a_list(either: Client, clock: ManualClock) -> None:
    """A list has the first fields of each tenant; `changedAt` is when its state was reached."""
    await read_success(await send(either, PROVISION, "request"))
    clock.turn(90)
    await read_success(await send(either, f"{PROVISION}_SUCCESS", "outcome"))
    reached = clock.now().isoformat()
    clock.turn(90)
    (listed,) = (await page_of(either))["items"]
    last = listed.pop("lastOperation")
    assert listed == {
        "tenantId": TENANT,
        "state": "provisioned",
        "changedAt": reached,
        "tier": "FULL",
        "operation": None,
        "isSlow": False,
        "waitingCount": 0,
        "reason": None,
    }
    assert (last["kind"], last["succeeded"], last["endedAt"]) == ("provisioning", True, reached)
    assert datetime.fromisoformat(listed["changedAt"]).utcoffset() is not None


async def test_the_list_is_narrowed_by_state(
    start_service: StartService, settings: Settings
) -> None:
    """The list of a state has its tenants, and the whole list has all, in the order of their
    ids."""
    service = await start_service(with_full_tier(settings))
    states = [state for state in WAYS_INTO if state != "unseen"]
    for number, state in enumerate(states):
        tenant_id = f"t-{9 - number}"
        for at, event_type in enumerate(WAYS_INTO[state]):
            event_id = f"{tenant_id}-{at}"
            await read_success(await send(service, event_type, event_id, tenant_id=tenant_id))
    for number, state in enumerate(states):
        items = (await page_of(service, state=state))["items"]
        assert [(item["tenantId"], item["state"]) for item in items] == [(f"t-{9 - number}", state)]
    assert (await page_of(service, state="cleaning_up"))["items"] == []
    ids = [item["tenantId"] for item in (await page_of(service))["items"]]
    assert ids == sorted(ids)
    assert len(ids) == len(states)


async def test_a_tenant_that_moves_leaves_its_old_list(either: Client) -> None:
    """A tenant whose state changes leaves the list of its former state."""
    await add(either, TENANT)
    await read_success(await send(either, DEPROVISION, "request"))
    assert (await page_of(either, state="provisioned"))["items"] == []
    (listed,) = (await page_of(either, state="deprovisioning"))["items"]
    assert listed["tenantId"] == TENANT


async def test_pages_are_not_moved_by_tenants_that_are_added(either: Client) -> None:
    """Pages show each tenant that existed at the first one once, even if others are added
    meanwhile."""
    await add(either, "b", "d", "f", "h", "j")
    first = await page_of(either, limit=2)
    assert [item["tenantId"] for item in first["items"]] == ["b", "d"]
    await add(either, "a", "e")
    second = await page_of(either, limit=2, cursor=first["cursor"])
    assert [item["tenantId"] for item in second["items"]] == ["e", "f"]
    await add(either, "c")
    third = await page_of(either, limit=2, cursor=second["cursor"])
    assert [item["tenantId"] for item in third["items"]] == ["h", "j"]
    assert third["cursor"] is None


async def test_pages_of_one_state(either: Client) -> None:
    """A cursor continues within the requested state."""
    await add(either, "a", "c", "e")
    await add(either, "b", "d", "f", outcome="FAILURE")
    first = await page_of(either, state="provision_failed", limit=2)
    assert [item["tenantId"] for item in first["items"]] == ["b", "d"]
    second = await page_of(either, state="provision_failed", limit=2, cursor=first["cursor"])
    assert [item["tenantId"] for item in second["items"]] == ["f"]
    assert second["cursor"] is None


async def test_a_page_has_50_by_default(start_service: StartService, settings: Settings) -> None:
    """A page has 50 tenants by default, and at most 100."""
    service = await start_service(with_full_tier(settings))
    await add(service, *(f"t-{number:03}" for number in range(101)))
    first = await page_of(service)
    assert len(first["items"]) == 50
    assert len((await page_of(service, limit=100))["items"]) == 100
    rest = await page_of(service, limit=100, cursor=first["cursor"])
    assert (len(rest["items"]), rest["cursor"]) == (51, None)


async def test_the_timeline_is_the_latest_first(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The timeline has each event of a tenant's life with its result, reason and run, the latest
    first."""
    answers = []
    life: list[tuple[str, dict[str, Any]]] = [
        (PROVISION, {"tier": "GOLD"}),
        (PROVISION, {}),
        (DEPLOY, {}),
        (f"{PROVISION}_SUCCESS", {}),
        (f"{DEPLOY}_SUCCESS", {}),
        (PROVISION, {}),
    ]
    for number, (event_type, body) in enumerate(life):
        answers.append(await send(either, event_type, f"e-{number}", **body))
        clock.turn(1)
    timeline = (await read_tenant(either))["timeline"]
    assert [answer.status for answer in answers] == [422, 200, 503, 200, 200, 503]
    entries = [(entry["eventType"], entry["status"], entry["reason"]) for entry in timeline]
    job = only_build(codebuild).id
    reported = "The job reports success; it counts once the builder says that the job is over."
    no_bus = "No TENANT_DEPLOYMENT was published, since the setting events.bus is empty."
    unknown = (await answers[0].json(content_type=None))["detail"]
    waits = (await answers[2].json(content_type=None))["instance"].removeprefix("/runs/")
    assert entries[:2] + entries[4:] == [
        (PROVISION, "retry", f"Run {waits} waits for the tenant {TENANT} before this one."),
        (f"{DEPLOY}_SUCCESS", "succeeded", "It ends no operation of this tenant."),
        (DEPLOY, "retry", f"The tenant {TENANT} is busy with its provisioning."),
        (PROVISION, "succeeded", f"The job {job} was started on CODE_BUILD."),
        (PROVISION, "failed", unknown),
    ]
    # The job's self-report, and the outcome by its builder's answer, have the same time.
    assert set(entries[2:4]) == {
        (f"{PROVISION}_SUCCESS", "succeeded", f"The job {job} succeeded. {no_bus}"),
        (f"{PROVISION}_SUCCESS", "succeeded", reported),
    }
    # The job's start links to its page, its end to its log.
    linked = {entry["reason"] for entry in timeline if entry["link"] is not None}
    about_job = (f"The job {job} succeeded", f"The job {job} was started")
    assert linked == {reason for _, _, reason in entries if reason.startswith(about_job)}
    times = [entry["at"] for entry in timeline]
    assert times == sorted(times, reverse=True)
    for entry in timeline:
        assert (await either.get(f"/runs/{entry['runId']}")).status == 200


async def test_the_timeline_has_pages(either: Client, clock: ManualClock) -> None:
    """The cursor continues where the page ended, whatever runs were added since."""
    await add(either, TENANT)
    for number in range(4):
        clock.turn(1)
        await send(either, PROVISION, f"late-{number}")
    first = await page_of(either, f"/tenants/{TENANT}", limit=2)
    clock.turn(1)
    await send(either, PROVISION, "later still")
    second = await page_of(either, f"/tenants/{TENANT}", limit=2, cursor=first["cursor"])
    third = await page_of(either, f"/tenants/{TENANT}", limit=2, cursor=second["cursor"])
    pages = [page["timeline"] for page in (first, second, third)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert third["cursor"] is None
    seen = [entry["runId"] for page in pages for entry in page]
    assert len(set(seen)) == 5
    assert pages[2][0]["eventType"] == f"{PROVISION}_SUCCESS"


async def test_one_tenants_timeline_is_not_anothers(either: Client) -> None:
    """A timeline has no event of another tenant, nor one that names no tenant."""
    await add(either, "t-1", "t-2")
    named = {"ORCHESTRATOR_RUN_ID": f"{'0' * 40}-1"}
    await read_success(
        await either.post("/events", json=envelope(f"{PROVISION}_FAILURE", named, event_id="x"))
    )
    for tenant_id in ("t-1", "t-2"):
        assert len((await read_tenant(either, tenant_id))["timeline"]) == 1


@pytest.mark.parametrize("tenant_id", ["a b", "a/b", "Zoë", "100%", "a?b#c", "#", "a~b", "x" * 500])
async def test_any_id_has_an_address(either: Client, tenant_id: str) -> None:
    """Any id is part of an address, escaped as in URLs, and is listed as it is."""
    await add(either, tenant_id)
    (listed,) = (await page_of(either))["items"]
    assert listed["tenantId"] == tenant_id
    path = URL(f"/tenants/{quote(tenant_id, safe='')}", encoded=True)
    answer = await either.get(path)
    assert (await answer.json())["tenantId"] == tenant_id


async def test_a_secret_is_never_shown(either: Client, codebuild: CodeBuildStandIn) -> None:
    """Neither secret nor context of the webhook is in any answer, of success or failure."""
    override = {"secret": SECRET, "context": CONTEXT}
    good = provisioning_event(tenant_id=TENANT, tier="FULL", override=override)
    await read_success(await either.post("/events", json=good))
    bad = provisioning_event(tenant_id="t-2", tier="GOLD", event_id="event-2", override=override)
    texts = [await (await either.post("/events", json=bad)).text()]
    paths = ["/tenants", f"/tenants/{TENANT}", "/runs", f"/runs?tenantId={TENANT}"]
    paths += [f"/runs/{run['runId']}" for run in (await page_of(either, "/runs"))["items"]]
    texts += [await (await either.get(path)).text() for path in paths]
    shown = " ".join(texts)
    assert SECRET not in shown
    assert CONTEXT not in shown
    assert only_build(codebuild)


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/tenants", {"limit": "0"}, "limit"),
        ("/tenants", {"limit": "101"}, "limit"),
        ("/tenants", {"limit": "-1"}, "limit"),
        ("/tenants", {"limit": "many"}, "limit"),
        ("/tenants", {"state": "lost"}, "'lost'"),
        ("/tenants", {"state": ""}, "''"),
        ("/tenants", {"state": "null"}, "'null'"),
        ("/tenants", [("limit", "1"), ("limit", "2")], "'limit' is given more than once"),
        ("/tenants", {"cursor": "nobody's"}, "cursor"),
        ("/tenants", {"status": "failed"}, "state, prefix, sort, limit, cursor"),
        (f"/tenants/{TENANT}", {"limit": "0"}, "limit"),
        (f"/tenants/{TENANT}", {"cursor": "nobody's"}, "cursor"),
        (f"/tenants/{TENANT}", {"state": "active"}, "limit, cursor, operationsCursor"),
        (f"/tenants/{TENANT}", {"operationsCursor": "nobody's"}, "cursor"),
        ("/tenants", {"sort": "name"}, "'name'"),
        ("/tenants", {"sort": "attention", "prefix": "t"}, "leave out 'state' and 'prefix'"),
        ("/tenants", {"sort": "attention", "state": "active"}, "leave out 'state' and 'prefix'"),
        ("/tenants", {"sort": "attention", "cursor": "dA"}, "no cursor"),
    ],
)
async def test_a_wrong_query_is_400(
    start_service: StartService, settings: Settings, path: str, query: Any, said: str
) -> None:
    """A wrong query is a 400 that names the parameter or the possible values."""
    service = await start_service(with_full_tier(settings))
    await bring_into(service, "active")
    problem = await read_problem(await service.get(path, params=query), 400)
    assert said in problem["detail"]


async def test_a_tenant_whose_only_request_was_refused(either: Client, clock: ManualClock) -> None:
    """A tenant whose only request was refused has its page, without a state, and the reason of the
    failed run."""
    event = envelope(PROVISION, {"tenantId": TENANT, "tier": "NONE"}, event_id="refused")
    problem = await read_problem(await either.post("/events", json=event), 422)
    tenant = await read_tenant(either)
    (entry,), last = tenant.pop("timeline"), tenant.pop("lastOperation")
    operations = tenant["operations"]
    assert tenant == {
        "tenantId": TENANT,
        "state": None,
        "changedAt": clock.now().isoformat(),
        "tier": None,
        "operation": None,
        "isSlow": False,
        "waitingCount": 0,
        "reason": problem["detail"],
        "waiting": [],
        "operations": [{**last, "starts": operations[0]["starts"], "report": None}],
        "operationsCursor": None,
        "cursor": None,
    }
    assert (entry["status"], entry["reason"]) == ("failed", problem["detail"])
    assert (last["state"], last["reason"]) == ("given_back", problem["detail"])
    (listed,) = (await page_of(either, state="none"))["items"]
    assert (listed["tenantId"], listed["reason"]) == (TENANT, problem["detail"])
    assert await page_of(either) == {"items": [], "cursor": None}


async def test_a_tenant_whose_request_means_two_is_seen(either: Client) -> None:
    """A tenant whose request was refused before any item of its own was written has its page."""
    override = {"tenant": '{"id": "t-2"}'}
    event = provisioning_event(tenant_id=TENANT, tier="FULL", override=override)
    await read_problem(await either.post("/events", json=event), 422)
    (entry,) = (await read_tenant(either))["timeline"]
    assert entry["status"] == "failed"
    assert (await either.get("/tenants/another")).status == 404


async def test_the_tier_is_shown_from_the_first_moment(either: Client) -> None:
    """The tier of the open operation is shown at once, in the list too."""
    await read_success(await send(either, PROVISION, "request"))
    assert (await read_tenant(either))["tier"] == "FULL"
    assert [one["tier"] for one in (await page_of(either))["items"]] == ["FULL"]
