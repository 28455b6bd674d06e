"""An orchestrator whose builder loses the answers to its starts, and handlers for it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import attrs
from structlog.testing import capture_logs

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Job,
    Orchestrator,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
    open_orchestrator,
)
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.ledger.records import OperationRecord, RunRecord
from orchestrator.settings import Callback, Operations, Runs
from orchestrator.testing import InMemoryBuilder, ManualClock, SequentialIds, envelope
from tests.desk import DeskLedger
from tests.ledgers import find_tenant

URL = "http://127.0.0.1:9/webhook"
REQUEST = envelope(
    "TENANT_PROVISIONING", {"tenantId": "t-1", "tier": "BASIC", "secret": "s", "context": "c"}
)
ORDER = envelope("ORDER", {"tenantId": "t-1"})
DONE = envelope("TENANT_PROVISIONING_SUCCESS", {"tenantId": "t-1"}, event_id="done")
BARE = "The ledger has no room for more."
#: After so long (seconds) a look-up's "none" is certain.
LONG_S = 600.0


Act = Callable[[Event[Any], Run], Any]


@attrs.define
class Forgetful(InMemoryBuilder):
    """The answer to a start is lost: `made` says whether there is a job nevertheless."""

    made: bool = True
    error: Exception | None = attrs.field(factory=lambda: TemporaryError("answer lost"))
    is_listed: bool = True
    looks: int = 0
    look_error: Exception | None = None
    stopped: list[str] = attrs.field(factory=list)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job = self._job
        if self.made:
            job = await InMemoryBuilder.start_job(self, job_identifier, params, start_key=start_key)
        if self.error is not None:
            raise self.error
        return job

    @property
    def _job(self) -> Job:
        return Job(id="b-1", builder=self.name, job_identifier="build")

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        self.looks += 1
        if self.look_error is not None:
            raise self.look_error
        listed = self.started if self.is_listed else []
        return next((one.job for one in listed if one.start_key == start_key), None)


@attrs.define
class RecordingWebhook:
    """A webhook that accepts every report, and records where each was posted."""

    urls: list[str] = attrs.field(factory=list)

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        self.urls.append(url)
        return WebhookAnswer(status=204)


@attrs.frozen
class Scene:
    orchestrator: Orchestrator
    ledger: DeskLedger
    clock: ManualClock
    builder: Forgetful
    webhook: RecordingWebhook

    async def send(self, event: Mapping[str, Any] = REQUEST) -> Exception | None:
        """Send an event; the error that its sender gets, or None if the event is handled."""
        try:
            await self.orchestrator.handle_event(str(event["detail-type"]), event)
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error
        return None

    def run(self, event_type: str = "TENANT_PROVISIONING") -> RunRecord:
        run: RunRecord
        (run,) = (one for one in self.all(RunRecord) if one.event_type == event_type)
        assert isinstance(run, RunRecord)
        return run

    @property
    def operation(self) -> OperationRecord:
        operation: OperationRecord
        (operation,) = self.all(OperationRecord)
        assert isinstance(operation, OperationRecord)
        return operation

    @property
    def job(self) -> Job:
        return self.builder.started[0].job

    def all(self, kind: type) -> list[Any]:
        return [record for record in self.ledger._items.values() if isinstance(record, kind)]

    async def is_free(self) -> bool:
        """Whether the tenant has neither a state nor an operation."""
        tenant = await find_tenant(self.ledger, "t-1")
        return tenant is None or (tenant.state is None and tenant.operation_id is None)

    async def take_over(self) -> None:
        (run,) = self.all(RunRecord)
        await self.ledger.put(attrs.evolve(run, attempt=run.attempt + 1))


@asynccontextmanager
async def opened(
    clock: ManualClock,
    *,
    builder: Forgetful | None = None,
    ledger: DeskLedger | None = None,
    max_attempts: int = 3,
    tiers: Any = None,
    url: str | None = URL,
    models: Mapping[str, Any] = {},
    **handlers: Act,
) -> AsyncIterator[Scene]:
    registry, ledger, webhook = HandlerRegistry(), ledger or DeskLedger(), RecordingWebhook()
    for event_type, handler in handlers.items():
        registry.register(event_type, handler, payload=models.get(event_type))
    builder = builder or Forgetful("CODE_BUILD")
    with capture_logs():
        async with open_orchestrator(
            Settings(
                operations=Operations(reconcile_every_s=0),
                runs=Runs(max_attempts=max_attempts),
                callback=Callback(url=url),
            ),
            extension=Extension(registry=registry, builders={"CODE_BUILD": builder}),
            clock=clock,
            ids=SequentialIds(),
            ledger=ledger,
        ) as orchestrator:
            assert isinstance(orchestrator, Orchestrator)
            services = attrs.evolve(orchestrator.services, webhook=webhook)
            services = attrs.evolve(services, tiers=tiers) if tiers else services
            orchestrator = attrs.evolve(orchestrator, services=services)
            yield Scene(orchestrator, ledger, clock, builder, webhook)


def first_starts(then: Act) -> Act:
    """The first attempt starts a job whose answer is lost; the later ones do `then`."""

    async def handler(event: Event[Any], run: Run) -> None:
        if run.attempt == 1:
            await run.start_job("build", {})
        await then(event, run)

    return handler


async def refuse(event: Event[Any], run: Run) -> None:
    raise PermanentError("the tier is gone")


async def stumble(event: Event[Any], run: Run) -> None:
    raise ValueError("a bug")


async def complete(event: Event[Any], run: Run) -> None:
    run.complete()


async def stay(event: Event[Any], run: Run) -> None:
    """It does nothing."""
