"""The lease of a run: claimed, renewed in time, and fenced.

Its holder may write; each of its writes is refused once another attempt has claimed the run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError, TakenOver
from orchestrator.core.identifiers import start_key
from orchestrator.core.ledger import breakdowns, settle
from orchestrator.core.ledger.bulkheads import Duty, on_duty
from orchestrator.core.ledger.claim import claim
from orchestrator.core.ledger.claim_request import ClaimRequest
from orchestrator.core.ledger.claim_result import Claimed, NotClaimed
from orchestrator.core.ledger.ledger import check_size
from orchestrator.core.ledger.operations import OrphanedJob
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Failure, OperationState
from orchestrator.core.ledger.records import OperationRecord, Progress, RunRecord
from orchestrator.core.ledger.settle import Fenced, Saved, Settlement, StartUnresolved
from orchestrator.core.ledger.snapshot import Snapshot
from orchestrator.core.ledger.transactions import Decide, Transactions
from orchestrator.core.metrics import OPERATION_DURATION

log = structlog.get_logger("orchestrator.lease")


async def claim_run(transactions: Transactions, request: ClaimRequest) -> "RunLease | NotClaimed":
    """Claim the event's run, or return why not.

    Raises:
        EventTooLarge: it is too large for the ledger.
        TemporaryError: the ledger can't be reached.
    """
    check_size(transactions.ledger, request.payload)
    snapshot = Snapshot(transactions.clock.now())
    outcome = await transactions.run(
        lambda snapshot: claim(snapshot, request, transactions.timings), snapshot
    )
    if isinstance(outcome, Claimed):
        return RunLease(transactions, snapshot, outcome.run, stop_reason=outcome.stop_reason)
    return outcome


async def claim_by_records(transactions: Transactions, run_id: str) -> "RunLease | None":
    """Claim the next attempt at a run that ends by its records; None if it isn't due.

    Raises:
        TemporaryError: the ledger can't be reached.
    """
    snapshot = Snapshot(transactions.clock.now())
    run = await transactions.run(
        lambda snapshot: breakdowns.claim_by_records(snapshot, run_id, transactions.timings),
        snapshot,
    )
    return None if run is None else RunLease(transactions, snapshot, run)


class RunLease:
    """The lease of a claimed run, and the writes of its holder, one at a time.

    `possible_start` is a start whose answer is unknown; with a `stop_reason` nothing must be
    started. Every write raises TakenOver once another attempt has taken the run over.
    """

    def __init__(
        self,
        transactions: Transactions,
        snapshot: Snapshot,
        run: RunRecord,
        *,
        stop_reason: str | None = None,
    ) -> None:
        self.run = run
        self.stop_reason = stop_reason
        self.possible_start = PossibleStart.of(run)
        self._transactions = transactions
        self._snapshot = snapshot
        self._one_at_a_time = asyncio.Lock()

    @property
    def start_key(self) -> str:
        """The run's start key, at most 64 characters."""
        return start_key(self.run.operation_id, self.run.start_number)

    @property
    def traceparent(self) -> str | None:
        """The span that opened the operation which the run opens or ends; None if it is unknown."""
        run = self.run
        operation = self._snapshot.known_operation(run.outcome_of or run.operation_id)
        return operation.traceparent if operation else None

    async def find_operation(self) -> OperationRecord | None:
        """The current operation of the run's starts."""
        return await self._transactions.find_operation(self.run.operation_id)

    async def is_over(self) -> bool:
        """Whether the operation that the run opened has ended."""
        operation = await self.find_operation()
        if operation is None or operation.start_number < self.run.start_number:
            return False
        return operation.state is OperationState.OVER

    async def renew(self) -> None:
        """Hold the run for another lease."""
        await self.write(
            lambda snapshot: settle.renew(snapshot, *self.fence, self._transactions.timings)
        )

    async def record(self, progress: Progress) -> OrphanedJob | None:
        """Record progress; returns a job that can't be the operation's."""
        outcome = await self.write(
            lambda snapshot: settle.record(
                snapshot, *self.fence, progress, self._transactions.timings
            )
        )
        return outcome if isinstance(outcome, OrphanedJob) else None

    async def settle(self, settlement: Settlement) -> Saved | OrphanedJob | StartUnresolved:
        """Settle the attempt, or return why it can't end like that."""
        outcome: Saved | OrphanedJob | StartUnresolved = await self.write(
            lambda snapshot: settle.settle(
                snapshot, *self.fence, settlement, self._transactions.timings
            )
        )
        if isinstance(outcome, Saved) and outcome.ended is not None:
            self._measure(outcome.ended)
        return outcome

    def _measure(self, ended: OperationRecord) -> None:
        if ended.kind is None or ended.ended_at is None:
            return
        result = "given_back"
        if ended.state is OperationState.OVER:
            result = "succeeded" if ended.succeeded else "failed"
        took_s = (ended.ended_at - ended.opened_at).total_seconds()
        self._transactions.metrics.observe(OPERATION_DURATION, took_s, ended.kind, result)

    async def go_on_by_records(self) -> None:
        """Find the operation that the run opened or ends by the ledger's items alone."""
        await self.write(lambda snapshot: breakdowns.go_on_by_records(snapshot, *self.fence))

    async def fail_alone(self, error: Failure, note: str) -> None:
        """End the run alone, without its operation."""
        await self.write(lambda snapshot: breakdowns.fail_alone(snapshot, *self.fence, error, note))

    @property
    def fence(self) -> tuple[str, int]:
        """The run's id and the attempt's number: a decision's fencing token."""
        return self.run.run_id, self.run.attempt

    async def write(self, decide: Decide[Any]) -> Any:
        """Run a decision, and return its result unless that is `Fenced`.

        Raises:
            TakenOver: another attempt has taken the run over (`Fenced`).
            TemporaryError: the ledger can't be reached.
        """
        async with self._one_at_a_time:
            self._snapshot.turn_to(self._transactions.clock.now())
            outcome = await self._transactions.run(decide, self._snapshot)
        if isinstance(outcome, Fenced):
            raise TakenOver(self.run.run_id)
        if isinstance(outcome, Saved):
            self.run = outcome.run
        return outcome


@asynccontextmanager
async def keep_renewed(
    renew: Callable[[], Any], clock: Clock, *, lease_s: float
) -> AsyncIterator[None]:
    """Renew the lease in time, for the life of the context."""
    is_renewing = False

    async def keep() -> None:
        nonlocal is_renewing
        while True:
            await clock.sleep(lease_s / 3)
            is_renewing = True
            try:
                with on_duty(Duty.RENEWAL):
                    await renew()
            except TakenOver as error:
                log.warning("lease lost", reason=str(error))
                return
            except OrchestratorError as error:
                log.warning("lease not renewed", reason=str(error))
            except Exception as bug:
                # Such as of a user's ledger: it must not end the renewals.
                log.error("lease not renewed", exc_info=bug)
            is_renewing = False

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        if is_renewing:
            # Until it has ended, it may hold progress that the settlement has to record.
            await asyncio.wait({task})
