"""The same guarantees for each builder: one job for each start, whatever fails, and its end is
detected."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Extension, JobStatus, Settings, TemporaryError, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import Record
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import (
    Builders,
    Jenkins,
    LedgerSettings,
    Secrets,
    StepFunctions,
    Tiers,
)
from orchestrator.testing import (
    InMemoryBuilder,
    ManualClock,
    StartedJob,
    envelope,
    provisioning_event,
)
from tests.acceptance.answers import read_success
from tests.acceptance.witness import Witness
from tests.conftest import Client
from tests.jenkins.stand_in import TOKEN, USER, open_jenkins_stand_in
from tests.ledgers import share_items
from tests.step_functions.stand_in import open_step_functions

TENANT = "t-1"
EVENT = provisioning_event(tenant_id=TENANT)
del EVENT["detail"]["builderConfig"]["type"]
STARTED = "ORCHESTRATOR_RUN_ID"
SECRET = "s3cr3t"  # in every value that must not be shown
SECRETS = {
    "secret": f"{SECRET}-1",
    "CLIENT_SECRET": f"{SECRET}-2",
    "githubToken": f"{SECRET}-3",
    "DATABASE": {"password": f"{SECRET}-4"},
}
#: The parameters of the job in Jenkins.
DEFINED = ("tenant", "VPC_ID", *SECRETS)


@attrs.frozen(kw_only=True)
class Ground:
    """A builder from its owner's view: its jobs, and how they end."""

    name: str
    builders: Builders = attrs.field(factory=Builders)
    extension: Extension = attrs.field(factory=Extension)
    #: Start keys of the started jobs, in the order of the starts.
    started: Callable[[], Sequence[str]]
    #: Ends all jobs: as succeeded, or as failed with a cause.
    finish: Callable[[str | None], None]
    lose_answer: Callable[[], None]
    stopped: Callable[[], int]
    #: All text that it was sent.
    received: Callable[[], str]


class ForgetfulBuilder(InMemoryBuilder):
    """A user's builder that finds a start by its key, and makes a job for each start request."""

    loses: int = 0

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job_id = f"{job_identifier}:{len(self.started) + 1}"
        job = Job(id=job_id, builder=self.name, job_identifier=job_identifier)
        self.started.append(StartedJob(job, dict(params), start_key))
        if self.loses:
            self.loses -= 1
            raise TemporaryError("the answer was lost")
        return job


@asynccontextmanager
async def on_your_own(_: CodeBuildStandIn, __: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    builder = ForgetfulBuilder("MINE")

    def finish(cause: str | None) -> None:
        status = JobStatus.FAILED if cause else JobStatus.SUCCEEDED
        for one in builder.started:
            builder.finish(one.job.id, status, message=cause)

    def lose_answer() -> None:
        builder.loses += 1

    yield Ground(
        name="MINE",
        extension=Extension(builders={"MINE": builder}),
        started=lambda: [one.start_key for one in builder.started],
        finish=finish,
        lose_answer=lose_answer,
        stopped=lambda: sum(status is JobStatus.STOPPED for status, _ in builder._ended.values()),
        received=lambda: str(builder.started),
    )


@asynccontextmanager
async def on_codebuild(codebuild: CodeBuildStandIn, _: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    codebuild.add_project("up")

    def started() -> Sequence[str]:
        given = [build.overrides for build in codebuild.builds.values()]
        return [one["value"] for many in given for one in many if one["name"] == STARTED]

    def finish(cause: str | None) -> None:
        for build_id in codebuild.builds:
            codebuild.finish(build_id, "FAILED" if cause else "SUCCEEDED", reason=cause)

    yield Ground(
        name="CODE_BUILD",
        started=started,
        finish=finish,
        # The SDK's retry returns the same build, by the idempotency token.
        lose_answer=lambda: codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2),
        stopped=lambda: sum(build.status == "STOPPED" for build in codebuild.builds.values()),
        received=lambda: str(codebuild.calls),
    )


@asynccontextmanager
async def on_step_functions(
    _: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    async with open_step_functions() as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", aws.url)
        machine = aws.add_machine("provision")

        def finish(cause: str | None) -> None:
            for arn in aws.executions:
                aws.finish(arn, "FAILED" if cause else "SUCCEEDED", error="E", cause=cause)

        yield Ground(
            name="STEP_FUNCTIONS",
            builders=Builders(step_functions=StepFunctions(state_machines={"up": machine})),
            started=lambda: [one["name"] for one in aws.executions.values()],
            finish=finish,
            lose_answer=lambda: aws.inject("StartExecution", *[Fault.answer_lost()] * 2),
            stopped=lambda: sum(one["status"] == "ABORTED" for one in aws.executions.values()),
            received=lambda: str(aws.calls),
        )


@asynccontextmanager
async def on_jenkins(_: CodeBuildStandIn, __: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    async with open_jenkins_stand_in(jobs={"up": (STARTED, *DEFINED)}) as jenkins:

        def finish(cause: str | None) -> None:
            for queue_id in jenkins.items:
                jenkins.finish(queue_id, "FAILURE" if cause else "SUCCESS", cause)

        yield Ground(
            name="JENKINS",
            builders=Builders(jenkins=Jenkins(url=jenkins.url, user=USER, token=TOKEN)),
            started=lambda: [one.parameters[STARTED] for one in jenkins.items.values()],
            finish=finish,
            lose_answer=lambda: jenkins.inject("buildWithParameters", Fault.answer_lost()),
            stopped=lambda: sum(one.cancelled for one in jenkins.items.values()),
            received=lambda: str([jenkins.requests, jenkins.items]),
        )


_GROUNDS = {
    "your own": on_your_own,
    "CodeBuild": on_codebuild,
    "Step Functions": on_step_functions,
    "Jenkins": on_jenkins,
}


@pytest.fixture(params=_GROUNDS)
async def ground(
    request: pytest.FixtureRequest, codebuild: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    open_ground: Callable[..., AbstractAsyncContextManager[Ground]] = _GROUNDS[request.param]
    async with open_ground(codebuild, monkeypatch) as ground:
        yield ground


class DyingLedger(InMemoryLedger):
    """The shared ledger as a process reaches it that dies as soon as `is_over` returns true."""

    def __init__(self, shared: InMemoryLedger, is_over: Callable[[], bool]) -> None:
        super().__init__()
        share_items(self, shared)
        self._is_over = is_over
        self.died = asyncio.Event()

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        if self._is_over():
            self.died.set()
            await asyncio.get_running_loop().create_future()
        await super().commit(records, unchanged=unchanged)


@attrs.frozen
class World:
    """Processes of the service, one after the other, over one ledger."""

    ground: Ground
    settings: Settings
    clock: ManualClock
    stack: AsyncExitStack
    witness: Witness
    ledger: InMemoryLedger = attrs.field(factory=InMemoryLedger)

    async def serve(self, ledger: InMemoryLedger | None = None, **settings: Any) -> Client:
        tier = {
            "jobIdentifier": "up",
            "deprovisioningJobIdentifier": "up",
            "builder": self.ground.name,
            "VPC_ID": "vpc-1",
        }
        configured = attrs.evolve(
            self.settings,
            builders=self.ground.builders,
            ledger=LedgerSettings(backend="memory", lease_s=60),
            tiers=Tiers(backend="static", static={"STANDARD": tier}),
            **settings,
        )
        app = create_app(
            configured,
            extension=self.ground.extension,
            drain_s=0,
            clock=self.clock,
            ledger=self.ledger if ledger is None else ledger,
        )
        server = TestServer(app, host="127.0.0.1")
        client: Client = TestClient(server, trace_configs=[self.witness.ears])
        return await self.stack.enter_async_context(client)

    async def sweep(self, service: Client, *, after_s: float = 61) -> None:
        self.clock.turn(after_s)
        assert (await service.post("/events/RECONCILE", json={})).status == 200

    async def state(self, service: Client) -> str:
        state: str = (await (await service.get(f"/tenants/{TENANT}")).json())["state"]
        return state


@pytest.fixture
async def world(
    ground: Ground, settings: Settings, clock: ManualClock, witness: Witness
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(ground, settings, clock, stack, witness)


@pytest.mark.parametrize("cause", [None, "No more addresses"])
async def test_a_job_s_end_is_the_operation_s(world: World, cause: str | None) -> None:
    """The end of the job is the operation's, with the builder's cause if it failed."""
    service = await world.serve()
    await read_success(await service.post("/events", json=EVENT))
    assert len(world.ground.started()) == 1
    await world.sweep(service)
    assert await world.state(service) == "provisioning"
    world.ground.finish(cause)
    await world.sweep(service)
    assert await world.state(service) == ("provision_failed" if cause else "provisioned")
    shown = await (await service.get(f"/tenants/{TENANT}")).text()
    assert cause is None or cause in shown


async def test_a_lost_answer_is_one_job(world: World) -> None:
    """A job whose start's answer was lost is found, and not started again."""
    service = await world.serve()
    world.ground.lose_answer()
    assert (await service.post("/events", json=EVENT)).status == 503
    assert len(world.ground.started()) == 1
    for _ in range(3):
        await world.sweep(service)
    assert len(world.ground.started()) == 1
    world.ground.finish(None)
    await world.sweep(service)
    assert await world.state(service) == "provisioned"


async def test_a_crash_between_the_start_and_its_record_is_one_job(world: World) -> None:
    """After a crash another process finds the job by its start key, an hour later too."""
    dying = DyingLedger(world.ledger, lambda: bool(world.ground.started()))
    first = await world.serve(dying)
    sender = asyncio.create_task(first.post("/events", json=EVENT))
    await dying.died.wait()
    second = await world.serve()
    for _ in range(3):
        await world.sweep(second, after_s=1200)
    assert len(world.ground.started()) == 1
    world.ground.finish(None)
    await world.sweep(second)
    assert await world.state(second) == "provisioned"
    sender.cancel()


async def test_events_that_come_at_once_are_one_job(world: World) -> None:
    """Each of several simultaneous deliveries is answered 200 or 503, and one job is started."""
    service = await world.serve()
    answers = await asyncio.gather(*(service.post("/events", json=EVENT) for _ in range(10)))
    assert {answer.status for answer in answers} <= {200, 503}
    assert len(world.ground.started()) == 1


async def test_a_cancelled_job_is_stopped(world: World) -> None:
    """A cancelled job is stopped, and its operation ends with the operator's reason."""
    service = await world.serve()
    await read_success(await service.post("/events", json=EVENT))
    answer = await service.post(f"/tenants/{TENANT}/cancel", json={"reason": "A mistake."})
    assert answer.status in (200, 202), await answer.text()
    await world.sweep(service)
    assert world.ground.stopped() == 1
    assert await world.state(service) == "provision_failed"
    assert "A mistake." in await (await service.get(f"/tenants/{TENANT}")).text()


async def test_a_self_report_makes_the_service_query_the_builder(world: World) -> None:
    """A self-report with the start key makes the service query the builder; before the job is over
    it ends nothing."""
    service = await world.serve()
    await read_success(await service.post("/events", json=EVENT))
    (start_key,) = world.ground.started()
    for number in range(2):
        self_report = {"tenantId": TENANT, STARTED: start_key}
        report = envelope("TENANT_PROVISIONING_SUCCESS", self_report, event_id=f"report-{number}")
        assert (await service.post("/events", json=report)).status == 200
        expected = "provisioned" if number else "provisioning"
        assert await world.state(service) == expected
        world.ground.finish(None)


async def test_no_secret_is_seen_outside_its_store(
    world: World,
    ministack: str,
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
) -> None:
    """No builder, answer or log line has a secret that is sent in a tenant's requests."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", ministack)
    patient = attrs.evolve(world.settings.aws, read_timeout_s=10.0)
    service = await world.serve(secrets=Secrets(store="secretsmanager"), aws=patient)

    async def send(event_type: str, number: int, **fields: Any) -> None:
        body = {"tenantId": TENANT, "tier": "STANDARD", **SECRETS, **fields}
        config = {"builderConfig": {"config": {"environmentOverride": SECRETS}}}
        event = envelope(event_type, {**body, **config}, event_id=f"{event_type}-{number}")
        await (await service.post("/events", json=event)).read()

    async def look() -> None:
        runs = (await (await service.get("/runs")).json())["items"]
        paths = ["/runs", f"/tenants/{TENANT}", "/tenants", "/readyz"]
        paths += [f"/runs/{run['runId']}" for run in runs]
        for path in paths:
            await (await service.get(path)).read()

    world.ground.lose_answer()
    for number in (1, 1, 2):
        await send("TENANT_PROVISIONING", number)
    for _ in range(2):
        await world.sweep(service)
    (start_key,) = world.ground.started()
    await look()
    for fields in ({}, {STARTED: start_key}, {"tier": 7}, {"tenantId": 7}):
        await send("TENANT_PROVISIONING_SUCCESS", len(fields), **fields)
    world.ground.finish(None)
    await world.sweep(service)
    assert await world.state(service) == "provisioned"
    await send("TENANT_DEPROVISIONING", 1)
    await send("TENANT_DEPROVISIONING", 2, tier="GOLD")
    await look()
    world.ground.finish("No more addresses")
    await world.sweep(service)
    assert await world.state(service) == "deprovision_failed"
    await send("TENANT_DEPROVISIONING", 3)
    await (await service.post(f"/tenants/{TENANT}/cancel", json={})).read()
    await send("NOBODY_KNOWS", 1)
    await look()
    for _ in range(2):
        await world.sweep(service)

    assert len(world.ground.started()) == 3
    everything = {
        "answers": "\n".join(witness.answers),
        "log": witness.log.getvalue(),
        "builder": world.ground.received(),
    }
    assert TENANT in everything["answers"]
    assert "CLIENT_SECRET" in everything["builder"]
    assert "/orchestrator/" in everything["builder"]
    assert "secrets removed" in everything["log"]
    assert {name for name, text in everything.items() if SECRET in text} == set()
