"""Fixtures of the acceptance tests: the service over each ledger, with a queue, a failing AWS."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Run,
    Settings,
    TemporaryError,
    create_app,
)
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.embedded import CodeBuildStandIn, open_embedded_aws
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import (
    Builders,
    Callback,
    Intake,
    LedgerSettings,
    StepFunctions,
    Tiers,
)
from orchestrator.testing import ManualClock
from tests.acceptance.orders import Seen
from tests.acceptance.queue_desk import URL, BusyInbox, Desk, DownLedger
from tests.acceptance.stories import FULL, open_ledger_table, over_dynamodb, with_full_tier
from tests.acceptance.witness import Witness, open_witness
from tests.conftest import Client, StartService
from tests.control_plane.receiver import ControlPlane, open_control_plane
from tests.faulty_aws import LEDGER, TIERS, FaultyAWS, open_faulty_aws
from tests.request_shapes import recorder as recorder
from tests.request_shapes import requests as requests
from tests.step_functions.stand_in import StepFunctionsStandIn, open_step_functions


@pytest.fixture(params=["memory", "dynamodb"])
async def either(
    request: pytest.FixtureRequest,
    start_service: StartService,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Client]:
    """The service with a job for everything, over each ledger."""
    if request.param == "memory":
        yield await start_service(with_full_tier(settings))
        return
    async with open_ledger_table(monkeypatch):
        yield await start_service(over_dynamodb(with_full_tier(settings)))


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> AsyncIterator[FaultyAWS]:
    """An AWS with ledger, tiers and projects; the way to it counts requests and fails on demand."""
    async with (
        open_embedded_aws(clock=lambda: clock.now().timestamp()) as embedded,
        open_faulty_aws(embedded) as faulty,
    ):
        await embedded.prepare(
            tier_table=TIERS,
            tiers=[{"tier": "FULL", **FULL}],
            tables=[table_schema(LEDGER)],
            bus=None,
            projects=FULL.values(),
        )
        for variable, value in faulty.environment().items():
            monkeypatch.setenv(variable, value)
        yield faulty


@pytest.fixture
def witness() -> Iterator[Witness]:
    with open_witness() as witness:
        yield witness


@pytest.fixture
async def control_plane(clock: ManualClock) -> AsyncIterator[ControlPlane]:
    """The control plane's verifier, which goes by the test's clock."""
    async with open_control_plane() as opened:
        await opened.turn_clock(clock.now())
        yield opened


@pytest.fixture
def in_dynamodb(settings: Settings) -> Settings:
    """Settings with ledger and tiers in DynamoDB."""
    return attrs.evolve(
        settings,
        ledger=LedgerSettings(backend="dynamodb", table=LEDGER),
        tiers=Tiers(backend="dynamodb", table=TIERS),
    )


@pytest.fixture(params=[False, True], ids=["standard", "FIFO"])
def in_groups(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def start_desk(
    start_service: StartService, settings: Settings, clock: ManualClock, in_groups: bool
) -> Callable[..., Awaitable[Desk]]:
    async def start(registry: HandlerRegistry | None = None, **parts: Any) -> Desk:
        intake = Intake(mode="queue", queue_url=URL, deadline_s=60)
        queued = attrs.evolve(settings, intake=intake)
        inbox, ledger = BusyInbox(clock, in_groups=in_groups), DownLedger()
        extension = Extension(registry=registry or HandlerRegistry())
        service = await start_service(
            queued, extension=extension, inbox=inbox, ledger=ledger, **parts
        )
        return Desk(service, inbox, ledger, clock, queued, extension, parts)

    return start


@pytest.fixture
def settings_with_webhook(settings: Settings, control_plane: ControlPlane) -> Settings:
    """Settings with the control plane's webhook, which is sent a report after the provisioning."""
    callback = Callback(url=control_plane.url, after="provisioning", timeout_s=30)
    return attrs.evolve(settings, callback=callback)


@pytest.fixture
def seen() -> Seen:
    """The events as the handler received them."""
    return []


@pytest.fixture
def extension(seen: Seen) -> Extension:
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event)

    @registry.on("WAITING")
    async def wait(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event)
        if run.attempt == 1:
            raise TemporaryError("later", retry_after_s=5)

    return Extension(registry=registry)


@pytest.fixture
def function(
    settings: Settings, extension: Extension, clock: ManualClock
) -> Iterator[LambdaService]:
    app = create_app(settings, extension=extension, clock=clock, hands_back=True)
    service = LambdaService(app)
    yield service
    service.close()


@pytest.fixture
async def step_functions(
    codebuild: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StepFunctionsStandIn]:
    """A Step Functions stand-in that AWS's own variable leads to."""
    async with open_step_functions() as stand_in:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", stand_in.url)
        yield stand_in


@pytest.fixture
def on_step_functions(settings: Settings, step_functions: StepFunctionsStandIn) -> Settings:
    """Settings under which both tiers start executions of one state machine."""
    machines = {"up": step_functions.add_machine("provision")}
    tier = {"jobIdentifier": "up", "builder": "STEP_FUNCTIONS"}
    return attrs.evolve(
        settings,
        builders=Builders(step_functions=StepFunctions(state_machines=machines)),
        tiers=Tiers(backend="static", static={"STANDARD": tier, "FULL": tier}),
    )
