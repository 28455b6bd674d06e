"""The run, as its handler sees it: what it may do, and what is remembered of it."""

import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import structlog

from orchestrator.core.errors import PayloadMismatch, PermanentError
from orchestrator.core.events import digest
from orchestrator.core.plans import find_tier
from orchestrator.core.ports import Builder, Clock, Ledger, Publisher, Structure, Tier, TierCatalog
from orchestrator.core.records import Job, Progress, RunRecord, Step


@attrs.frozen(kw_only=True)
class Services:
    """What every run of one orchestrator works with."""

    ledger: Ledger
    tiers: TierCatalog
    builders: Mapping[str, Builder]
    default_builder: str
    publisher: Publisher
    structure: Structure
    clock: Clock
    resources: Any = None

    def find_builder(self, name: str | None) -> Builder:
        """The builder of that name, the default one for None.

        Raises:
            PermanentError: there is none of that name.
        """
        chosen = name or self.default_builder
        if chosen not in self.builders:
            there = ", ".join(sorted(self.builders))
            raise PermanentError(
                "Invalid builder config provided.",
                errors=[
                    PayloadMismatch(
                        "$.builderConfig.type", f"{chosen!r} is no builder here; there is {there}"
                    )
                ],
            )
        return self.builders[chosen]


class Run:
    """The second argument of every handler."""

    def __init__(self, record: RunRecord, services: Services) -> None:
        self._record = record
        self._services = services
        self._steps = dict(record.steps)
        self._job = record.job
        self._taken: set[str] = set()
        self.unrecorded = Progress()
        self.follow_ups: list[tuple[str, Mapping[str, Any]]] = []
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger("orchestrator.run")

    @property
    def run_id(self) -> str:
        return self._record.run_id

    @property
    def attempt(self) -> int:
        """1 on the first try."""
        return self._record.attempt

    @property
    def tenant_id(self) -> str | None:
        return self._record.tenant_id

    @property
    def resources(self) -> Any:
        """What the extension's `lifespan` gave."""
        return self._services.resources

    async def tenant_tier(self) -> str | None:
        """The tier that the tenant was provisioned with, None if nobody knows."""
        if self.tenant_id is None:
            return None
        tenant = await self._services.ledger.find_tenant(tenant_id=self.tenant_id)
        return tenant.tier if tenant else None

    async def tier_details(self, tier: str | None) -> Tier:
        """The attributes of a tier.

        Raises:
            PermanentError: the catalog doesn't have it, or `tier` is None: none is named.
        """
        return await find_tier(tier, self._services.tiers)

    async def step(
        self, name: str, action: Callable[[], Awaitable[Any]], returns: Any = None
    ) -> Any:
        """What `action` returns, or what it returned in an earlier attempt of this run.

        The result takes the way through JSON on the first run too, so that both times it
        is the same; `returns` is the model that it becomes again. A process that dies
        after the action and before the result is remembered runs the action again: hand
        `step_key(name)` on as idempotency key.

        Raises:
            ValueError: the name was taken in this run before.
            TypeError: the result has no JSON form.
        """
        self._take(name)
        remembered = self._steps.get(name)
        if remembered is None:
            await self._record_progress()
            result = self._services.structure.unstructure(await action())
            remembered = Step(name=name, result=result, recorded_at=self._services.clock.now())
            self._steps[name] = remembered
            self.unrecorded = attrs.evolve(
                self.unrecorded, steps=(*self.unrecorded.steps, remembered)
            )
        # A copy: what a handler does to it must not change what is remembered.
        return self._services.structure.structure(copy.deepcopy(remembered.result), returns)

    def step_key(self, name: str) -> str:
        """The idempotency key of a step: the same in every attempt at the same event."""
        return digest(self._record.request_key, name)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], builder: str | None = None
    ) -> Job | None:
        """Start a job on a builder (None: the default one): a step of its own.

        `params` become the job's variables, together with ORCHESTRATOR_RUN_ID (the start
        key) and TRACEPARENT (https://www.w3.org/TR/trace-context/).

        Raises:
            PermanentError: no such builder, or the builder refuses the job for good.
            TemporaryError: the builder can't take it now.
        """
        self._take("start_job")
        if self._job is None:
            chosen = self._services.find_builder(builder)
            await self._record_progress()
            start_key = f"{self._record.request_key}-1"
            self._job = await chosen.start_job(
                job_identifier,
                {
                    **params,
                    "ORCHESTRATOR_RUN_ID": start_key,
                    "TRACEPARENT": _traceparent(start_key),
                },
                start_key=start_key,
            )
            self.unrecorded = attrs.evolve(self.unrecorded, job=self._job)
            if self._job is not None:
                self.log.info("job started", job_id=self._job.id, builder=self._job.builder)
        return self._job

    async def publish(
        self, event_type: str, detail: Mapping[str, Any], *, name: str | None = None
    ) -> None:
        """Publish an event on the bus: a step, called `publish TYPE` unless `name` is given.

        The detail also carries `tenantId`, `operationId` and `runId`, where it doesn't have
        them itself.

        Raises:
            TemporaryError: the bus doesn't take it now, or the setting `events.bus` is empty.
        """
        own = {
            "tenantId": self.tenant_id,
            "operationId": self.run_id,
            "runId": self.run_id,
        }
        published = {**{key: value for key, value in own.items() if value}, **detail}

        async def put() -> str:
            return await self._services.publisher.publish(
                event_type=event_type, detail=self._services.structure.unstructure(published)
            )

        await self.step(name or f"publish {event_type}", put)

    def follow_up(self, event_type: str, body: Mapping[str, Any]) -> None:
        """Once this run is settled, handle the event that it amounts to, through the registry.

        It is a run of its own.
        """
        self.follow_ups.append((event_type, body))

    def _take(self, name: str) -> None:
        if name in self._taken:
            raise ValueError(f"The step {name!r} is taken twice in one run: give each its name.")
        self._taken.add(name)

    async def _record_progress(self) -> None:
        if not self.unrecorded:
            return
        # Taken off before it is written: a step that runs beside this may add to it meanwhile.
        progress, self.unrecorded = self.unrecorded, Progress()
        try:
            await self._services.ledger.record(
                run_id=self.run_id, attempt=self.attempt, progress=progress
            )
        except BaseException:
            self.unrecorded = progress.followed_by(self.unrecorded)
            raise


def _traceparent(start_key: str) -> str:
    return f"00-{digest('trace', start_key)[:32]}-{digest('span', start_key)[:16]}-01"
