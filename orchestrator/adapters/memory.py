"""The ledger in memory: for tests and for trying things out. A process that ends forgets it.

It holds to the same contract as a durable ledger (`tests/contracts`); each method is
atomic because it never awaits.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

from orchestrator.core.errors import TemporaryError
from orchestrator.core.events import Event, digest
from orchestrator.core.pages import Page, decode_cursor, encode_cursor
from orchestrator.core.ports import Clock, Permission
from orchestrator.core.records import (
    BodyDiffers,
    Claim,
    Claimed,
    Duplicate,
    InOtherHands,
    Progress,
    RunRecord,
    RunStatus,
    Settlement,
    TenantRecord,
)


class InMemoryLedger:
    description = "memory: forgotten when the process ends"
    permissions: tuple[Permission, ...] = ()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, RunRecord] = {}
        self._bodies: dict[str, str] = {}
        self._tenants: dict[str, TenantRecord] = {}

    async def claim(
        self, *, event: Event[Mapping[str, Any]], tenant_id: str | None, dedupe_window_s: float
    ) -> Claim:
        now = self._clock.now()
        body = digest(event.body)
        earlier = self._runs.get(event.key)
        if earlier is not None:
            window = timedelta(seconds=dedupe_window_s)
            seen_long_ago = event.identified_by_content and earlier.first_seen + window <= now
            if self._bodies[event.key] != body:
                return BodyDiffers(earlier)
            if earlier.status is RunStatus.RUNNING:
                return InOtherHands(earlier)
            if earlier.status is RunStatus.SUCCEEDED and not seen_long_ago:
                return Duplicate(earlier)
            if seen_long_ago:
                request_key = digest(event.key, now.isoformat())
                earlier = attrs.evolve(
                    earlier, request_key=request_key, first_seen=now, steps={}, job=None
                )
            run = attrs.evolve(
                earlier,
                status=RunStatus.RUNNING,
                attempt=earlier.attempt + 1,
                started_at=now,
                ended_at=None,
                error=None,
            )
        else:
            run = RunRecord(
                run_id=event.key,
                request_key=event.key,
                event_type=event.type,
                source=event.source,
                event_id=event.id,
                tenant_id=tenant_id,
                status=RunStatus.RUNNING,
                attempt=1,
                first_seen=now,
                started_at=now,
            )
        self._runs[event.key] = run
        self._bodies[event.key] = body
        return Claimed(run)

    async def record(self, *, run_id: str, attempt: int, progress: Progress) -> None:
        self._runs[run_id] = _remember(self._held(run_id, attempt), progress)

    async def settle(self, *, run_id: str, attempt: int, settlement: Settlement) -> None:
        run = _remember(self._held(run_id, attempt), settlement.progress)
        now = self._clock.now()
        self._runs[run_id] = attrs.evolve(
            run,
            status=settlement.status,
            error=settlement.error,
            ended_at=now,
            bugs=run.bugs + (settlement.error is not None and settlement.error.is_bug),
        )
        if run.tenant_id and settlement.tenant_state:
            earlier = self._tenants.get(run.tenant_id)
            self._tenants[run.tenant_id] = TenantRecord(
                tenant_id=run.tenant_id,
                state=settlement.tenant_state,
                changed_at=now,
                tier=settlement.tier or (earlier.tier if earlier else None),
            )

    async def find_run(self, *, run_id: str) -> RunRecord | None:
        return self._runs.get(run_id)

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        before = None if cursor is None else decode_cursor(cursor)
        matching = sorted(
            (
                run
                for run in self._runs.values()
                if tenant_id in (None, run.tenant_id)
                and event_type in (None, run.event_type)
                and status in (None, run.status)
                and (before is None or _position(run) < before)
            ),
            key=_position,
            reverse=True,
        )
        items = matching[:limit]
        more = len(matching) > limit
        return Page(items, encode_cursor(_position(items[-1])) if more else None)

    async def find_tenant(self, *, tenant_id: str) -> TenantRecord | None:
        return self._tenants.get(tenant_id)

    async def has_job(self, *, job_id: str) -> bool:
        return any(run.job is not None and run.job.id == job_id for run in self._runs.values())

    async def check(self) -> None:
        return None

    def _held(self, run_id: str, attempt: int) -> RunRecord:
        """The run, if it is running under this attempt: the fence against zombies."""
        run = self._runs.get(run_id)
        if run is None or run.status is not RunStatus.RUNNING or run.attempt != attempt:
            raise TemporaryError(f"The run {run_id} is in other hands.")
        return run


def _position(run: RunRecord) -> str:
    """A run's place in the order of runs; the id tells those of one moment apart."""
    return f"{run.first_seen.isoformat(timespec='microseconds')} {run.run_id}"


def _remember(run: RunRecord, progress: Progress) -> RunRecord:
    steps = {**run.steps, **{step.name: step for step in progress.steps}}
    return attrs.evolve(run, steps=steps, job=progress.job or run.job)
