"""Transactions: a decision runs on a snapshot, again after each conflict, until its commit holds.

    decide on a snapshot ────► commit ──► written
             ▲                   │
             └── current items ◄─┘ conflict: an item has another version

Nothing is decided here (`claim`, `settle`, `operations`) and nothing is stored (`ledger`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar, cast

import attrs
import structlog

from orchestrator.core.clock import Clock
from orchestrator.core.errors import TemporaryError
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Conflict, Ledger, UnreadableItems
from orchestrator.core.ledger.records import (
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    TenantRecord,
    job_key,
    operation_key,
    payload_key,
    registration_key,
    run_key,
    tenant_key,
)
from orchestrator.core.ledger.snapshot import Decision, NotLoaded, Snapshot
from orchestrator.core.metrics import LEDGER_CONFLICTS, NO_METRICS, Metrics

#: After so many conflicts in a row the transaction raises a TemporaryError.
_TRIES = 20
Result = TypeVar("Result")
Decide = Callable[[Snapshot], Decision[Result]]

log = structlog.get_logger("orchestrator.transactions")


@attrs.frozen(kw_only=True)
class Transactions:
    ledger: Ledger
    clock: Clock
    timings: Timings
    metrics: Metrics = NO_METRICS

    async def run(self, decide: Decide[Result], snapshot: Snapshot | None = None) -> Result:
        """Commit the writes of `decide`, on the condition that its items are current; returns its
        result.

        `snapshot` has the items loaded before; None: none.

        Raises:
            TemporaryError: the ledger can't be reached, or too many conflicts in a row.
        """
        snapshot = Snapshot(self.clock.now()) if snapshot is None else snapshot
        for _ in range(_TRIES):
            snapshot.begin()
            try:
                decision = decide(snapshot)
            except NotLoaded as missing:
                snapshot.learn(await self.ledger.load(missing.keys))
                continue
            # A decision that writes nothing has no commit that checks the items it read.
            if not decision.writes and (unconfirmed := snapshot.unconfirmed):
                snapshot.learn(await self.ledger.load(unconfirmed))
            elif not decision.writes or await self._commit(decision.writes, snapshot):
                return decision.result
        raise TemporaryError("Too many processes write the same items of the ledger at once.")

    async def _commit(self, writes: Sequence[Record], snapshot: Snapshot) -> bool:
        """Write them if all items that were read are unchanged; False: a conflict."""
        written = {record.key for record in writes}
        # DynamoDB refuses a transaction with two writes of one item (TransactWriteItems).
        assert len(written) == len(writes), written  # noqa: S101
        unchanged = {
            key: version for key, version in snapshot.versions_used().items() if key not in written
        }
        try:
            await self.ledger.commit(writes, unchanged=unchanged)
        except Conflict as conflict:
            self.metrics.add(LEDGER_CONFLICTS)
            # Items loaded before are as old as the attempt that just failed.
            snapshot.turn_to(snapshot.now)
            snapshot.learn(conflict.items)
            return False
        snapshot.learn({record.key: _written(record) for record in writes})
        return True

    async def find_run(self, run_id: str) -> RunRecord | None:
        return cast("RunRecord | None", await self._find(run_key(run_id)))

    async def find_kept(self, run_id: str) -> tuple[RunRecord | None, PayloadRecord | None]:
        """A run with its event, read together; None for an event that can't be read."""
        try:
            kept = await self.ledger.load([run_key(run_id), payload_key(run_id)])
        except UnreadableItems as error:
            if run_key(run_id) in error.keys:
                raise
            log.error("event can't be read", run_id=run_id, reason=str(error))
            kept = error.found
        return (
            cast("RunRecord | None", kept[run_key(run_id)]),
            cast("PayloadRecord | None", kept.get(payload_key(run_id))),
        )

    async def find_operation(self, operation_id: str) -> OperationRecord | None:
        return cast("OperationRecord | None", await self._find(operation_key(operation_id)))

    async def find_tenant(self, tenant_id: str) -> TenantRecord | None:
        """The tenant, if it had a request; its state is None until an operation opens."""
        return cast("TenantRecord | None", await self._find(tenant_key(tenant_id)))

    async def find_operations(self, operation_ids: Collection[str]) -> dict[str, OperationRecord]:
        """The operations with these ids that exist, by id; one that can't be parsed is left out."""
        found = await self._find_readable(map(operation_key, operation_ids))
        return {one.operation_id: one for one in found if isinstance(one, OperationRecord)}

    async def find_runs(self, run_ids: Collection[str]) -> dict[str, RunRecord]:
        """The runs with these ids that exist, by id; one that can't be parsed is left out."""
        found = await self._find_readable(map(run_key, run_ids))
        return {one.run_id: one for one in found if isinstance(one, RunRecord)}

    async def _find_readable(self, keys: Iterable[str]) -> list[Record | None]:
        wanted = list(keys)
        try:
            found = await self.ledger.load(wanted) if wanted else {}
        except UnreadableItems as error:
            log.error("items left out of a view", reason=str(error))
            found = error.found
        return list(found.values())

    async def find_job(self, builder: str, job_id: str) -> JobRecord | None:
        return cast("JobRecord | None", await self._find(job_key(builder, job_id)))

    async def find_registration(self, registration_id: str) -> RegistrationRecord | None:
        found = await self._find(registration_key(registration_id))
        return cast("RegistrationRecord | None", found)

    async def _find(self, key: str) -> Record | None:
        return (await self.ledger.load([key]))[key]


def _written(record: Record) -> Record:
    return evolve(record, version=record.version + 1)
