"""The requests that wait for a tenant, and the order in which they are handled.

Plain functions of a snapshot. A tenant's list gives only the order. Each run in it has its own due
time, so that a lost list loses no run; an entry whose run no longer waits has no effect, and the
next write that finds it removes it.
"""

from collections.abc import Sequence
from itertools import takewhile

from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.guards import is_due
from orchestrator.core.ledger.record_parts import Waiter
from orchestrator.core.ledger.records import RunRecord, RunStatus, TenantRecord
from orchestrator.core.ledger.snapshot import Snapshot

#: How many may wait for one tenant.
MAX_WAITING = 100


def find_first_before(
    snapshot: Snapshot,
    tenant: TenantRecord | None,
    run_id: str | None,
    *,
    other_than: Kind | None = None,
) -> RunRecord | None:
    """The first run that waits for the tenant before this one; a run without a place is last.

    `other_than`: runs that request an operation of that kind don't count.

    provisioning ─ under way ─────────────────────────────────
    deprovisioning ── waits ──────────────────────── its turn
    provisioning again ── joins ✗ answered 200, and then the tenant is removed
    """
    waiting = tenant.waiting if tenant else ()
    before = takewhile(lambda waiter: waiter.run_id != run_id, waiting)
    return _find_first(snapshot, [one for one in before if one.kind is not other_than])


def wake_next(snapshot: Snapshot, tenant: TenantRecord) -> tuple[RunRecord, ...]:
    """The run whose turn comes next, due at once if the tenant is free and it isn't due yet."""
    run = _find_first(snapshot, tenant.waiting) if tenant.operation_id is None else None
    is_asleep = run is not None and run.status is RunStatus.RETRY and not is_due(run, snapshot.now)
    return (evolve(run, due_at=snapshot.now),) if run is not None and is_asleep else ()


def is_full(snapshot: Snapshot, tenant: TenantRecord, run_id: str) -> bool:
    """The waiting list is full, and the run isn't on it."""
    if len(tenant.waiting) < MAX_WAITING or is_in_list(tenant, run_id):
        return False
    runs = snapshot.look_at_runs([waiter.run_id for waiter in tenant.waiting])
    return sum(map(_waits, runs)) >= MAX_WAITING


def is_in_list(tenant: TenantRecord, run_id: str) -> bool:
    return any(waiter.run_id == run_id for waiter in tenant.waiting)


def with_waiter(
    snapshot: Snapshot, tenant: TenantRecord, waiter: Waiter, *, last: bool
) -> TenantRecord:
    """The tenant with the run on its waiting list: at its place, or at the end if `last`."""
    if is_in_list(tenant, waiter.run_id) and not last:
        return without(snapshot, tenant)
    left = without(snapshot, tenant, waiter.run_id)
    return evolve(left, waiting=(*left.waiting, waiter))


def without(snapshot: Snapshot, tenant: TenantRecord, run_id: str | None = None) -> TenantRecord:
    """The tenant without the run on its waiting list, and without runs known to wait no longer."""

    def stays(waiter: Waiter) -> bool:
        if waiter.run_id == run_id:
            return False
        return not snapshot.has_seen_run(waiter.run_id) or _waits(
            *snapshot.look_at_runs([waiter.run_id])
        )

    kept = tuple(filter(stays, tenant.waiting))
    return tenant if kept == tenant.waiting else evolve(tenant, waiting=kept)


def _find_first(snapshot: Snapshot, waiters: Sequence[Waiter]) -> RunRecord | None:
    """The first that still waits: mostly the first entry; only if not are the others read."""
    ids = [waiter.run_id for waiter in waiters]
    for some in (ids[:1], ids[1:]):
        for run in snapshot.look_at_runs(some):
            if run is not None and _waits(run):
                return run
    return None


def _waits(run: RunRecord | None) -> bool:
    return run is not None and run.status in (RunStatus.RETRY, RunStatus.RUNNING)
