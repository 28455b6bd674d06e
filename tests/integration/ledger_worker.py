"""A worker of the ledger's model test: an orchestrator over ports whose effects wait at gates."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import attrs

from orchestrator import Event, JobDescription, PermanentError, Run, TemporaryError
from orchestrator.adapters.eventbridge.publisher import NoPublisher
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.callback.report import CallbackPolicy
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.clock import Clock
from orchestrator.core.dispatch.orchestrator import Limits, Orchestrator
from orchestrator.core.errors import SecretNotFound
from orchestrator.core.events.event_types import TENANT_PROVISIONING, Kind
from orchestrator.core.events.payloads import TenantProvisioning
from orchestrator.core.handlers import builtin
from orchestrator.core.handlers.builtin import built_in_handlers
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.handlers.services import Services
from orchestrator.core.ledger.ledger import Conflict, Ledger, OpenOperations, Summary
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Record,
    RunRecord,
    TenantRecord,
)
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import SecretReferences, SecretRemover
from orchestrator.testing import LoadedDice, SequentialIds
from orchestrator.wire.converter import JsonConverter
from tests.integration.ledger_world import COMMIT, REPORT, TIMINGS, Fate, Part, World

Result = TypeVar("Result")

ORDER = "ORDER"
CONTROL_PLANE = "https://control.example/webhook"


@attrs.define(eq=False)
class AttemptRunner:
    """One process: a clock that is `offset_s` off, and an orchestrator over gated ports."""

    name: str
    world: World
    offset_s: float
    is_alive: bool = True

    def now(self) -> datetime:
        return self.world.clock.now() + timedelta(seconds=self.offset_s)

    async def sleep(self, seconds: float) -> None:
        await self.world.clock.sleep(seconds)

    async def effect(self, what: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """Let `act` take effect or not, as the test decides."""
        fate = await self.world.pass_gate(self, what)
        if fate is Fate.LOST:
            raise TemporaryError("No answer.")
        if fate is Fate.REFUSED:
            raise TemporaryError("Not now.", nothing_done=True)
        if fate is Fate.FORBIDDEN:
            is_temporary = what in (COMMIT, REPORT)
            raise TemporaryError("Closed.") if is_temporary else PermanentError("Never.")
        refusal: Exception | None = None
        try:
            result = await act()
        except (Conflict, PermanentError) as error:
            refusal = error
        if fate is Fate.HELD:
            fate = await self.world.pass_gate(self, f"the answer to {what}")
        if fate is Fate.BUG and what.startswith("start"):
            raise RuntimeError("What was that?")
        if fate not in (Fate.DONE, Fate.HELD):
            raise TemporaryError("The answer is lost.")
        if refusal is not None:
            raise refusal
        return result

    def open(self) -> Orchestrator:
        ledger: Ledger = _GatedLedger(self)
        clock: Clock = self
        return Orchestrator(
            registry=_REGISTRY,
            services=Services(
                transactions=Transactions(ledger=ledger, clock=clock, timings=TIMINGS),
                tiers=self.world,
                builders={"CODE_BUILD": _GatedBuilder(self)},
                default_builder="CODE_BUILD",
                publisher=NoPublisher(),
                structure=_Structure(self.world),
                webhook=_GatedWebhook(self),
                secret_references=SecretReferences(
                    store=_GatedStore(self),
                    ids=SequentialIds(),
                    secrets=Redactor(),
                    prefix="/secrets",
                ),
                secret_remover=SecretRemover(stores=[_GatedStore(self)]),
                notifications=BUILT_IN_NOTIFICATIONS,
                clock=clock,
                callback=CallbackPolicy(url=CONTROL_PLANE),
                resources=self.world,
            ),
            ids=SequentialIds(),
            dice=LoadedDice(),
            aliases={},
            limits=Limits(sweep_s=1e6),
        )


async def _provision(event: Event[TenantProvisioning], run: Run) -> None:
    """The built-in handler, followed by a step and by what the test has happen then."""
    world: World = run.resources
    await builtin.tenant_provisioning(event, run)
    if world.after_start is not None:
        raise world.after_start("after the start")
    if event.body.get("welcomes"):
        await run.step("welcome", _nothing)


async def _order(event: Event[dict[str, Any]], run: Run) -> None:
    """A user's handler: its job belongs to the run and holds no tenant."""
    await run.step("reserve", _nothing)
    await run.start_job("order", {"password": "s"})


async def _nothing() -> None:
    return None


def _registry() -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.register(TENANT_PROVISIONING, _provision)
    registry.register(ORDER, _order)
    return registry.over(built_in_handlers())


_REGISTRY = _registry()
_WIRE = JsonConverter(Redactor(()))


@attrs.frozen
class _Structure:
    """The converter of models, which breaks down on demand."""

    world: World

    def structure(self, value: object, model: Any) -> Any:
        if self.world.breaks is Part.MODEL:
            raise RuntimeError("What is that?")
        return _WIRE.structure(value, model)

    def unstructure(self, value: object) -> Any:
        return _WIRE.unstructure(value)


@attrs.frozen
class _GatedBuilder:
    worker: AttemptRunner

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        async def act() -> Job:
            return self.worker.world.make_build(self.worker, job_identifier, params, start_key)

        return await self.worker.effect(f"start {start_key[:4]}{start_key[40:]}", act)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        async def act() -> Job | None:
            return self.worker.world.listed(start_key)

        return await self.worker.effect(f"look-up {start_key[:4]}{start_key[40:]}", act)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        return self.worker.world.describe(job_ids)

    async def stop_job(self, *, job_id: str) -> None:
        async def act() -> None:
            self.worker.world.stop(self.worker, job_id)

        await self.worker.effect(f"stop {job_id}", act)


@attrs.frozen
class _GatedStore:
    worker: AttemptRunner
    reference_type: str = "SECRETS_MANAGER"

    async def put(self, *, name: str, value: str) -> None:
        async def act() -> None:
            self.worker.world.keep(self.worker, name, value)

        await self.worker.effect("store", act)

    async def read(self, *, name: str) -> str:
        async def act() -> str:
            if name not in self.worker.world.secrets:
                raise SecretNotFound(name, "store")
            return self.worker.world.secrets[name]

        return await self.worker.effect("read", act)

    async def remove(self, *, name: str) -> None:
        async def act() -> None:
            self.worker.world.remove(self.worker, name)

        await self.worker.effect("remove", act)


@attrs.frozen
class _GatedWebhook:
    worker: AttemptRunner

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        async def act() -> WebhookAnswer:
            return WebhookAnswer(status=self.worker.world.receive_report(self.worker, text))

        return await self.worker.effect(REPORT, act)


class _GatedLedger:
    """The shared ledger, as one worker reaches it. Reads pass no gate."""

    max_payload_bytes: int | None = None

    def __init__(self, worker: AttemptRunner) -> None:
        self._worker, self._world = worker, worker.world

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        async def act() -> None:
            await self._world.call(self._world.ledger.commit(records, unchanged=unchanged))
            for line in self._world.watch.written(records, self._worker):
                self._world.tell(f"{self._worker.name}: {line}")

        await self._worker.effect(COMMIT, act)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        found = await self._world.call(self._world.ledger.load(keys))
        if self._world.breaks is not Part.PAYLOADS:
            return found
        return {
            key: attrs.evolve(item, data=b"") if isinstance(item, PayloadRecord) else item
            for key, item in found.items()
        }

    async def find_due(self, **asked: Any) -> Page[str]:
        return await self._world.call(self._world.ledger.find_due(**asked))

    async def list_runs(self, **asked: Any) -> Page[RunRecord]:
        raise AssertionError(asked)

    async def list_tenants(self, **asked: Any) -> Page[TenantRecord]:
        raise AssertionError(asked)

    async def list_by_attention(self, **asked: Any) -> Page[TenantRecord]:
        raise AssertionError(asked)

    async def list_operations(self, **asked: Any) -> Page[OperationRecord]:
        raise AssertionError(asked)

    async def summarize(self, *, most: int) -> Summary:
        raise AssertionError(most)

    async def count_open(self, kind: Kind, *, most: int) -> OpenOperations:
        raise AssertionError

    async def check(self) -> None:
        return None
