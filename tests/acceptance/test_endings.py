"""How operations end, over HTTP: by CodeBuild's state changes, by a build's self-report, by the
sweep."""

import asyncio
import json
import zlib
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import PayloadRecord
from orchestrator.embedded import Build, CodeBuildStandIn, Fault
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.settings import Operations, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.acceptance.endings import (
    ENDS,
    STATUSES,
    change_state,
    outcome,
    post,
    read_ledger,
    send_self_report,
)
from tests.acceptance.stories import (
    FULL,
    PROVISION,
    TENANT,
    list_runs,
    read_tenant,
    replay,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import CODEBUILD, Client, StartService


@pytest.mark.parametrize("way", ["state change", "own report", "sweep"])
@pytest.mark.parametrize("status", list(STATUSES))
@pytest.mark.parametrize("event_type", list(ENDS))
async def test_every_end_is_noticed_by_every_way(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    event_type: str,
    status: Any,
    way: str,
) -> None:
    """Each end sets the tenant's state, the reason and the log link, by whichever message it is
    detected; a second message changes nothing."""
    service = await start_service(with_full_tier(settings))
    await read_success(await send(service, event_type, "request"))
    build = only_build(codebuild)
    codebuild.finish(build.id, status, reason="exit status 1")
    for number in range(2):
        match way:
            case "state change":
                await change_state(service, build, event_id=f"change-{number}")
            case "own report":
                await send_self_report(
                    service, build, f"{event_type}_SUCCESS", event_id=f"told-{number}"
                )
            case "sweep":
                await sweep(service)
    succeeded = status == "SUCCEEDED"
    assert await state_of(service) == ENDS[event_type][0 if succeeded else 1]
    entry = await outcome(service)
    assert entry["eventType"] == f"{event_type}_{'SUCCESS' if succeeded else 'FAILURE'}"
    assert STATUSES[status] in entry["reason"]
    assert succeeded or "exit status 1" in entry["reason"]
    assert entry["link"] == build.as_document()["logs"]["deepLink"]


@pytest.mark.parametrize("way", ["state change", "sweep"])
async def test_logs_in_s3_alone_are_linked(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, way: str
) -> None:
    """The log link leads to S3 if the project logs to S3 alone."""
    codebuild.add_project(FULL["jobIdentifier"], logs_in_s3=True)
    service = await start_service(with_full_tier(settings))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    codebuild.finish(build.id, "FAILED")
    await (change_state(service, build, event_id="c") if way == "state change" else sweep(service))
    assert (await outcome(service))["link"] == build.as_document()["logs"]["s3DeepLink"]


@pytest.mark.parametrize("event_type", list(ENDS))
async def test_a_build_that_was_deleted_is_a_failure(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    event_type: str,
) -> None:
    """An operation whose build was deleted fails at the deadline, since how the build ended is
    unknown."""
    operations = Operations(reconcile_every_s=0, deadline_s=600)
    service = await start_service(attrs.evolve(with_full_tier(settings), operations=operations))
    await read_success(await send(service, event_type, "request"))
    codebuild.remove_build(only_build(codebuild).id)
    clock.turn(599)
    await sweep(service)
    assert (await read_tenant(service))["operation"] is not None
    clock.turn(1)
    await sweep(service)
    assert await state_of(service) == ENDS[event_type][1]
    assert "deleted" in (await outcome(service))["reason"]


async def test_many_jobs_are_described_in_one_request(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """One request describes up to 25 jobs of a sweep, while the first requests are smaller so that
    each is finished."""
    service = await start_service(with_full_tier(settings))
    for number in range(130):
        await read_success(await send(service, PROVISION, f"r-{number}", tenant_id=f"t-{number}"))
    codebuild.calls.clear()
    await sweep(service)
    sizes = [len(sent["ids"]) for action, sent in codebuild.calls if action == "BatchGetBuilds"]
    assert (sum(sizes), max(sizes)) == (130, 25)
    assert len(sizes) < 130 / 10


async def test_a_builder_that_is_down_makes_the_sweep_503(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A sweep is 503 while the builder is down, and the next one detects the end."""
    service = await start_service(with_full_tier(settings))
    await read_success(await send(service, PROVISION, "request"))
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    codebuild.inject("BatchGetBuilds", *[Fault.error("ThrottlingException")] * 2)
    await read_problem(await service.post("/events/RECONCILE", json={}), 503)
    assert await state_of(service) == "provisioning"
    await sweep(service)
    assert await state_of(service) == "provisioned"


async def test_a_success_report_before_the_last_command_ends_nothing(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A self-report before the build's last command, as the sample scripts send it, doesn't end the
    operation; the build's failure later does."""
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    build = only_build(codebuild)
    report_run = await read_run(
        service, await send_self_report(service, build, f"{PROVISION}_SUCCESS")
    )
    assert report_run["status"] == "succeeded"
    assert "once the builder says" in report_run["note"]
    assert await state_of(service) == "provisioning"
    codebuild.finish(build.id, "FAILED", reason="exit status 1")
    await change_state(service, build)
    assert await state_of(service) == "provision_failed"


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_a_failure_in_an_early_phase_is_resolved_through_the_build(
    service: Client, codebuild: CodeBuildStandIn, is_recorded: bool
) -> None:
    """A build that fails before it can name its tenant ends its operation by its id, even if the
    answer to its start was lost."""
    lost = [] if is_recorded else [Fault.answer_lost()] * 2
    codebuild.inject("StartBuild", *lost)
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    answer = await service.post(f"/events/{PROVISION}", json=body)
    assert answer.status == (200 if is_recorded else 503)
    build = only_build(codebuild)
    codebuild.finish(build.id, "FAILED", reason="no such image")
    early = {"CODEBUILD_BUILD_ID": build.id, "CODEBUILD_BUILD_SUCCEEDING": "0"}
    address = await post(service, envelope(f"{PROVISION}_FAILURE", early))
    assert (await read_run(service, address))["tenantId"] == TENANT
    assert await state_of(service) == "provision_failed"
    assert "no such image" in (await outcome(service))["reason"]


async def test_a_self_report_of_a_foreign_build_ends_nothing(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A self-report of a build that is neither a job of the service nor has its start key ends no
    operation, whatever tenant it names; its run is stored."""
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    stranger = {"tenantId": TENANT, "CODEBUILD_BUILD_ID": "standard-tenant:a-strangers"}
    address = await post(service, envelope(f"{PROVISION}_SUCCESS", stranger))
    assert (await read_run(service, address))["note"] == "It ends no operation of this tenant."
    without_tenant = {"CODEBUILD_BUILD_ID": "standard-tenant:a-strangers"}
    address = await post(service, envelope(f"{PROVISION}_SUCCESS", without_tenant, event_id="2"))
    assert "names no tenant" in (await read_run(service, address))["note"]
    assert await state_of(service) == "provisioning"


@pytest.mark.parametrize("other", ["unseen", "provisioning"])
async def test_a_self_report_that_names_another_tenant_ends_the_builds_own(
    service: Client, codebuild: CodeBuildStandIn, other: str
) -> None:
    """A self-report that names another tenant ends the operation of the job's recorded tenant; the
    other tenant is unchanged."""
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    build = only_build(codebuild)
    if other == "provisioning":
        body = {"tenantId": "another", "tier": "STANDARD"}
        await read_success(await service.post(f"/events/{PROVISION}", json=body))
    self_report = {"CODEBUILD_BUILD_ID": build.id, "tenant": {"id": "another", "name": "A"}}
    await post(service, envelope(f"{PROVISION}_SUCCESS", self_report, event_id="told"))
    codebuild.finish(build.id, "SUCCEEDED")
    await change_state(service, build)
    assert await state_of(service) == "provisioned"
    assert await state_of(service, "another") == other


async def test_a_build_that_ends_before_its_start_is_settled(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A state change that arrives before StartBuild's answer has its build adopted, and ends the
    operation once."""
    slow = Fault.slow()
    codebuild.inject("StartBuild", slow)
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    opening = asyncio.create_task(service.post(f"/events/{PROVISION}", json=body))
    await slow.reached.wait()
    build = only_build(codebuild)
    codebuild.finish(build.id, "SUCCEEDED")
    await change_state(service, build)
    assert await state_of(service) == "provisioned"
    slow.release.set()
    await read_success(await opening)
    await change_state(service, build, event_id="again")
    assert await state_of(service) == "provisioned"
    outcomes = await list_runs(service, eventType=f"{PROVISION}_SUCCESS")
    assert [run["status"] for run in outcomes] == ["succeeded"]


async def test_an_orphaned_build_of_a_late_send_is_stopped(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """The second build that a start which outlived its lease made is stopped; it ends no operation,
    and no operation has it."""
    service = await start_service(with_full_tier(settings))
    await read_success(await send(service, PROVISION, "request"))
    first = only_build(codebuild)
    parameters = {**first.parameters, "idempotencyToken": "another"}
    second = codebuild._start_build(parameters)["build"]["id"]
    await change_state(service, codebuild.builds[second])
    assert codebuild.builds[second].status == "STOPPED"
    assert (first.status, await state_of(service)) == ("IN_PROGRESS", "provisioning")
    await change_state(service, codebuild.builds[second], event_id="stopped")
    assert await state_of(service) == "provisioning"


async def test_a_report_of_an_earlier_start_ends_nothing(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A report of an earlier start doesn't end the operation that a forced replay has started
    again."""
    service = await start_service(with_full_tier(settings))
    address = await read_success(await send(service, PROVISION, "request"))
    first = only_build(codebuild)
    codebuild.finish(first.id, "FAILED")
    await change_state(service, first)
    await read_success(await replay(service, address, force=True))
    assert await state_of(service) == "provisioning"
    await change_state(service, first, event_id="late")
    await send_self_report(service, first, f"{PROVISION}_FAILURE", event_id="late too")
    assert await state_of(service) == "provisioning"


async def test_a_clean_up_follows_a_failed_provisioning(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A clean-up holds the tenant and has the request's variables except its secrets; its end is no
    outcome of the provisioning."""
    codebuild.add_project("cleanup")
    tier = {"jobIdentifier": "standard-tenant", "cleanupJobIdentifier": "cleanup"}
    tiers = Tiers(backend="static", static={"FULL": tier})
    service = await start_service(attrs.evolve(settings, tiers=tiers))
    override = {"REGION_NAME": "eu-west-1", "secret": "s-1", "context": "c-1"}
    config = {"config": {"environmentOverride": override}}
    await read_success(await send(service, PROVISION, "request", builderConfig=config))
    codebuild.finish(only_build(codebuild).id, "FAILED")
    await sweep(service)
    tenant = await read_tenant(service)
    assert (tenant["state"], tenant["operation"]["kind"]) == ("cleaning_up", "clean_up")
    clean_up = list(codebuild.builds.values())[-1]
    passed = {one["name"]: one["value"] for one in clean_up.overrides}
    assert (clean_up.project, passed["REGION_NAME"]) == ("cleanup", "eu-west-1")
    assert not {"secret", "context"} & set(passed)
    assert (await send(service, PROVISION, "meanwhile")).status == 503
    codebuild.finish(clean_up.id, "FAILED")
    await sweep(service)
    assert await state_of(service) in ("provision_failed", "provisioning")
    assert len(await list_runs(service, eventType=f"{PROVISION}_FAILURE")) == 1
    assert len(await list_runs(service, eventType="TENANT_CLEAN_UP_FAILURE")) == 1


async def test_no_secret_of_a_builds_environment_is_kept(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A secret of a build's environment is neither in the ledger nor in the log nor in an answer;
    its exported variables are stored."""
    service = await start_service(with_full_tier(settings))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    build.overrides.append({"name": "CLIENT_SECRET", "value": "hush-hush"})
    await send_self_report(service, build, f"{PROVISION}_SUCCESS", DB_PASSWORD="hush-hush")
    exported = {"APP_PLANE_URL": "https://a.example", "ADMIN_TOKEN": "hush-hush"}
    codebuild.finish(build.id, "SUCCEEDED", exported=exported)
    await change_state(service, build)
    ledger = service.app[TRANSACTIONS].ledger
    assert isinstance(ledger, InMemoryLedger)
    kept = [
        zlib.decompress(item.data).decode() if isinstance(item, PayloadRecord) else repr(item)
        for item in ledger._items.values()
    ]
    assert "https://a.example" in "".join(kept)
    shown = json.dumps([await read_tenant(service), await list_runs(service)])
    printed = capsys.readouterr()
    assert "hush-hush" not in "".join([*kept, shown, printed.out, printed.err])


async def test_an_end_that_is_noticed_twice_is_one_event(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A second message about an end is the same outcome event, even if the outcome was postponed
    and the build exported more meanwhile."""
    attempts: list[int] = []
    registry = HandlerRegistry()

    @registry.on(f"{PROVISION}_SUCCESS")
    async def succeeded(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)
        if run.attempt == 1:
            raise TemporaryError("not yet")

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    codebuild.finish(build.id, "SUCCEEDED")
    change = envelope("BUILD_STATE_CHANGE", build.as_state_change(), event_id="1")
    await read_problem(await service.post("/events", json=change), 503)
    build.exported = {"MORE": "is known by now"}
    await change_state(service, build, event_id="2")
    assert attempts == [1, 2]
    assert await state_of(service) == "provisioned"


@pytest.mark.parametrize("way", ["state change", "own report", "sweep"])
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
async def test_an_end_is_kept_in_each_ledger(either: Client, status: Any, way: str) -> None:
    """After the end the tenant is free and nothing else was started, and the timeline says that no
    deployment was published."""
    codebuild = either.app[CODEBUILD]
    await read_success(await send(either, PROVISION, "request"))
    build = only_build(codebuild)
    codebuild.finish(build.id, status)
    match way:
        case "state change":
            await change_state(either, build)
        case "own report":
            await send_self_report(either, build, f"{PROVISION}_SUCCESS")
        case "sweep":
            await sweep(either)
    succeeded = status == "SUCCEEDED"
    tenant = await read_tenant(either)
    assert tenant["state"] == ENDS[PROVISION][0 if succeeded else 1]
    assert tenant["operation"] is None
    entry = await outcome(either)
    assert entry["link"] == build.as_document()["logs"]["deepLink"]
    assert ("No TENANT_DEPLOYMENT was published" in entry["reason"]) is succeeded
    assert only_build(codebuild) is build


@pytest.mark.parametrize("is_over", [True, False])
async def test_a_self_report_before_its_start_is_settled_is_adopted(
    service: Client, codebuild: CodeBuildStandIn, is_over: bool
) -> None:
    """A self-report that arrives before StartBuild's answer has its build adopted, and the
    operation ends once."""
    slow = Fault.slow()
    codebuild.inject("StartBuild", slow)
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    opening = asyncio.create_task(service.post(f"/events/{PROVISION}", json=body))
    await slow.reached.wait()
    build = only_build(codebuild)
    if is_over:
        codebuild.finish(build.id, "FAILED")
    await send_self_report(service, build, f"{PROVISION}_SUCCESS")
    assert await state_of(service) == ("provision_failed" if is_over else "provisioning")
    slow.release.set()
    await read_success(await opening)
    if not is_over:
        codebuild.finish(build.id, "FAILED")
    await sweep(service)
    assert await state_of(service) == "provision_failed"
    assert (await outcome(service))["eventType"] == f"{PROVISION}_FAILURE"
    assert only_build(codebuild) is build


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_a_self_report_survives_an_outage_of_codebuild(
    service: Client, codebuild: CodeBuildStandIn, is_recorded: bool
) -> None:
    """During an outage a self-report of a recorded job is stored, and the job is checked later; one
    of an unrecorded job is 503, so that it is sent again."""
    lost = [] if is_recorded else [Fault.answer_lost()] * 2
    codebuild.inject("StartBuild", *lost)
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    await service.post(f"/events/{PROVISION}", json=body)
    build = only_build(codebuild)
    codebuild.finish(build.id, "SUCCEEDED")
    codebuild.inject("BatchGetBuilds", *[Fault.error("ThrottlingException")] * 2)
    detail = {"CODEBUILD_BUILD_ID": build.id, "TENANT_ID": TENANT}
    self_report = envelope(f"{PROVISION}_SUCCESS", detail, event_id="told")
    if is_recorded:
        await post(service, self_report)
        assert await state_of(service) == "provisioning"
        await sweep(service)
    else:
        await read_problem(await service.post("/events", json=self_report), 503)
        assert await state_of(service) == "provisioning"
        await post(service, self_report)
    assert await state_of(service) == "provisioned"


async def test_a_build_of_an_earlier_start_is_stopped(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A build of an earlier start that appears after a forced replay is stopped, and the current
    build's end counts."""
    service = await start_service(with_full_tier(settings))
    address = await read_success(await send(service, PROVISION, "request"))
    first = only_build(codebuild)
    codebuild.finish(first.id, "FAILED")
    await change_state(service, first)
    await read_success(await replay(service, address, force=True))
    second = list(codebuild.builds.values())[-1]
    parameters = {**first.parameters, "idempotencyToken": "another"}
    late = codebuild.builds[codebuild._start_build(parameters)["build"]["id"]]
    assert await change_state(service, late, event_id="late") == ""
    assert (late.status, second.status) == ("STOPPED", "IN_PROGRESS")
    assert await change_state(service, late, event_id="late and over") == ""
    await send_self_report(service, late, f"{PROVISION}_FAILURE")
    assert await state_of(service) == "provisioning"
    codebuild.finish(second.id, "SUCCEEDED")
    await change_state(service, second, event_id="second")
    assert await state_of(service) == "provisioned"


async def test_a_state_change_that_ends_nothing_leaves_nothing(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A state change of a foreign build, or of a build of the service that still runs, writes
    nothing to the ledger."""
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    before = read_ledger(service)
    stranger = Build("other:1", "other", 1, 1, {}, started=0.0, status="FAILED", ended=1.0)
    assert await change_state(service, stranger) == ""
    assert await change_state(service, only_build(codebuild)) == ""
    assert read_ledger(service) == before


async def test_a_report_under_the_id_of_the_outcome_takes_nothing_from_it(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A self-report whose id is the start key, with the service's own source, doesn't prevent the
    outcome event."""
    body = {"tenantId": TENANT, "tier": "STANDARD"}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    build = only_build(codebuild)
    (key,) = (one["value"] for one in build.overrides if one["name"] == "ORCHESTRATOR_RUN_ID")
    detail = {"CODEBUILD_BUILD_ID": build.id, "TENANT_ID": TENANT}
    event_type = f"{PROVISION}_SUCCESS"
    await post(service, envelope(event_type, detail, event_id=key, source="orchestrator"))
    codebuild.finish(build.id, "SUCCEEDED")
    await sweep(service)
    assert await state_of(service) == "provisioned"
