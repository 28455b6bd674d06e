"""Pytest fixtures: the service in memory, with a clock, a builder and a bus that the test controls.

    # conftest.py
    pytest_plugins = ["orchestrator.testing.plugin"]

It isn't registered as an entry point, so that only test suites that name it get its fixtures. It
needs pytest-asyncio, in either mode. PYTEST_DONT_REWRITE: it has no assertions about a test, and a
module that was imported for a type before would be a warning.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Extension, JobStatus, Settings, TemporaryError, create_app
from orchestrator.core.ledger.records import Due, OperationRecord, Record, RunRecord
from orchestrator.intake.app_keys import OWN_ORCHESTRATOR, REGISTRY, TRANSACTIONS
from orchestrator.settings import Intake, LedgerSettings, Operations, Tiers
from orchestrator.testing.builder import InMemoryBuilder
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.event_bridge import EventBridgeSimulator
from orchestrator.testing.publisher import InMemoryPublisher

__all__ = [
    "OrchestratorClient",
    "SettleAll",
    "builder",
    "clock",
    "event_bridge",
    "orchestrator_app",
    "orchestrator_extension",
    "orchestrator_settings",
    "publisher",
    "settle_all",
]

#: The type of the fixture `orchestrator_app`.
OrchestratorClient = TestClient[web.Request, web.Application]
#: The type of the fixture `settle_all`.
SettleAll = Callable[..., Awaitable[None]]

#: In the place of the default builder, so that events need no builder of their own for a test.
_BUILDER = "CODE_BUILD"
_TIER: Mapping[str, Any] = {
    "jobIdentifier": "provision-tenant",
    "deploymentJobIdentifier": "deploy-tenant",
    "deprovisioningJobIdentifier": "deprovision-tenant",
}
_AT_ANY_TIME = datetime(9000, 1, 1, tzinfo=UTC)
_MOST_ROUNDS = 200


@pytest.fixture
def clock() -> ManualClock:
    """The service's clock: `clock.turn(seconds)` advances it."""
    return ManualClock()


@pytest.fixture
def builder() -> InMemoryBuilder:
    """The service's default builder: `builder.started` has its jobs, `builder.finish` ends one."""
    return InMemoryBuilder(_BUILDER)


@pytest.fixture
def publisher() -> InMemoryPublisher:
    """The service's bus: `publisher.published` has its events, in their EventBridge envelopes."""
    return InMemoryPublisher()


@pytest.fixture
def orchestrator_settings() -> Settings:
    """The settings: in memory, with the tiers BASIC, STANDARD and PREMIUM. Override it for others;
    neither files nor environment variables are read."""
    return Settings(
        intake=Intake(deadline_s=60),
        ledger=LedgerSettings(backend="memory"),
        operations=Operations(reconcile_every_s=0),
        tiers=Tiers(
            backend="static",
            static={tier: dict(_TIER) for tier in ("BASIC", "STANDARD", "PREMIUM")},
        ),
    )


@pytest.fixture
def orchestrator_extension() -> Extension:
    """Your extension: override it with your handlers, tiers, lifespan."""
    return Extension()


@pytest_asyncio.fixture
async def orchestrator_app(
    orchestrator_settings: Settings,
    orchestrator_extension: Extension,
    clock: ManualClock,
    builder: InMemoryBuilder,
    publisher: InMemoryPublisher,
) -> AsyncIterator[OrchestratorClient]:
    """An HTTP client of the running service; `orchestrator_app.app` is the app."""
    extension = attrs.evolve(
        orchestrator_extension, builders={_BUILDER: builder, **orchestrator_extension.builders}
    )
    app = create_app(
        orchestrator_settings, extension=extension, clock=clock, publisher=publisher, drain_s=0
    )
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


@pytest.fixture
def event_bridge(orchestrator_app: OrchestratorClient, clock: ManualClock) -> EventBridgeSimulator:
    """Delivers events to the service as EventBridge does: `await event_bridge.deliver([event])`."""
    return EventBridgeSimulator(orchestrator_app, clock)


@pytest.fixture
def settle_all(
    orchestrator_app: OrchestratorClient,
    event_bridge: EventBridgeSimulator,
    clock: ManualClock,
    builder: InMemoryBuilder,
    publisher: InMemoryPublisher,
) -> SettleAll:
    """`await settle_all()` lets time pass until nothing is left to do.

    Running jobs of `builder` end, as succeeded or as `end`; published events for which the service
    has a handler are delivered back to it; sweeps resume whatever is due.

    Raises:
        AssertionError: something stays due after 200 sweeps; its message says what, and why.
    """
    delivered = 0

    async def settle(end: JobStatus = JobStatus.SUCCEEDED) -> None:
        nonlocal delivered
        app = orchestrator_app.app
        assert app is not None  # noqa: S101 - it runs
        ledger, own = app[TRANSACTIONS].ledger, app[OWN_ORCHESTRATOR]
        record: Record | None = None
        for _ in range(_MOST_ROUNDS):
            builder.finish_running(end)
            events = publisher.published[delivered:]
            delivered += len(events)
            await event_bridge.deliver(
                [event for event in events if event["detail-type"] in app[REGISTRY].by_type]
            )
            due = (await ledger.find_due(before=_AT_ANY_TIME, limit=1)).items
            if not due and len(publisher.published) == delivered:
                return
            record = next(iter((await ledger.load(due)).values()), None)
            if isinstance(record, Due) and record.due_at is not None:
                clock.turn(max(0.0, (record.due_at - clock.now()).total_seconds()))
            # A builder that fails in each sweep stays due, with its trouble.
            with suppress(TemporaryError):
                await own.reconcile()
        raise AssertionError(f"Still due after {_MOST_ROUNDS} sweeps: {_described(record)}")

    return settle


def _described(record: Record | None) -> str:
    match record:
        case RunRecord():
            error = record.error.message if record.error else record.note
            return f"the run of {record.event_type}: {error}"
        case OperationRecord():
            return f"the operation of {record.tenant_id}: {record.trouble}"
    return "events of the bus, which lead to others" if record is None else record.key
