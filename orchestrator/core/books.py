"""The books: carries decisions out on the ledger, again and again until one of them holds.

    decide on what is known ──► commit ──► written
             ▲                    │
             └── learn what is ◄──┘ something stands otherwise

Nothing is decided here (`core.claims`, `core.settlements`) and nothing is stored
(`Ledger`). A claim gives an `Attempt`: the run in hand, and all that its holder may write.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import attrs
import structlog

from orchestrator.core import answers, breakdowns, settlements
from orchestrator.core.bulkheads import Duty, on_duty
from orchestrator.core.claims import claim
from orchestrator.core.conditions import Terms
from orchestrator.core.errors import OrchestratorError, TakenOver, TemporaryError
from orchestrator.core.operations import Orphaned
from orchestrator.core.ports import Clock, Conflict, Ledger, UnreadableItems, check_size
from orchestrator.core.records import (
    Failure,
    JobRecord,
    OperationRecord,
    OperationState,
    PayloadRecord,
    Progress,
    Record,
    RegistrationRecord,
    RunRecord,
    TenantRecord,
    job_key,
    operation_key,
    payload_key,
    registration_key,
    run_key,
    start_key,
    tenant_key,
)
from orchestrator.core.settlements import Fenced, Settlement, Uncertain, Written
from orchestrator.core.views import Move, UnreadItem, View

#: Decisions that in a row rested on what was out of date: then somebody else may try.
_TRIES = 20

Result = TypeVar("Result")
Decision = Callable[[View], Move[Result]]

log = structlog.get_logger("orchestrator.books")


@attrs.frozen(kw_only=True)
class Books:
    ledger: Ledger
    clock: Clock
    terms: Terms

    async def decide(self, decide: Decision[Result]) -> Result:
        """Carry out a decision that stands for itself. Raises what `carry_out` does."""
        return await self.carry_out(View(self.clock.now()), decide)

    async def carry_out(self, view: View, decide: Decision[Result]) -> Result:
        """Commit what `decide` says, on facts that hold at that moment; its result.

        Raises:
            TemporaryError: the ledger can't be reached, or everybody writes at once.
        """
        for _ in range(_TRIES):
            view.begin()
            try:
                move = decide(view)
            except UnreadItem as unread:
                view.learn(await self.ledger.load(unread.keys))
                continue
            if not move.writes:
                # No commit will check what this rests on.
                if unsure := view.unsure:
                    view.learn(await self.ledger.load(unsure))
                    continue
                return move.result
            written = {record.key for record in move.writes}
            # DynamoDB refuses a transaction with two writes of one item (TransactWriteItems).
            assert len(written) == len(move.writes), written  # noqa: S101
            unchanged = {
                key: version for key, version in view.versions_used().items() if key not in written
            }
            try:
                await self.ledger.commit(move.writes, unchanged=unchanged)
            except Conflict as conflict:
                # What was learned before is as old as the try that just failed.
                view.turn_to(view.now)
                view.learn(conflict.items)
                continue
            view.learn({record.key: _written(record) for record in move.writes})
            return move.result
        raise TemporaryError("Too many write the same items of the ledger at once.")

    async def find_run(self, run_id: str) -> RunRecord | None:
        return cast("RunRecord | None", await self._find(run_key(run_id)))

    async def find_kept(self, run_id: str) -> tuple[RunRecord | None, PayloadRecord | None]:
        """A run with its event, read at once; an event that can't be read is as good as none."""
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
        """The tenant, if something was ever asked for it; its state is None until one begins."""
        return cast("TenantRecord | None", await self._find(tenant_key(tenant_id)))

    async def find_holders(self, tenants: Sequence[TenantRecord]) -> Mapping[str, OperationRecord]:
        """The operations that hold the tenants, by the ids of those that are held.

        One that can't be read is left out: it hides nothing else of its tenant.
        """
        keys = {
            tenant.tenant_id: operation_key(tenant.operation_id)
            for tenant in tenants
            if tenant.operation_id is not None
        }
        try:
            found = await self.ledger.load(keys.values()) if keys else {}
        except UnreadableItems as error:
            log.error("operations left out", reason=str(error))
            found = error.found
        held = {tenant_id: found.get(key) for tenant_id, key in keys.items()}
        return {
            tenant_id: operation
            for tenant_id, operation in held.items()
            if isinstance(operation, OperationRecord)
        }

    async def find_job(self, builder: str, job_id: str) -> JobRecord | None:
        return cast("JobRecord | None", await self._find(job_key(builder, job_id)))

    async def find_registration(self, registration_id: str) -> RegistrationRecord | None:
        found = await self._find(registration_key(registration_id))
        return cast("RegistrationRecord | None", found)

    async def _find(self, key: str) -> Record | None:
        return (await self.ledger.load([key]))[key]


async def claim_run(books: Books, request: answers.ClaimRequest) -> "Attempt | answers.Unclaimed":
    """Take the event's run in hand, or say why it isn't ours.

    Raises:
        EventTooLarge: the ledger can't keep it.
        TemporaryError: the ledger can't be reached.
    """
    check_size(books.ledger, request.payload)
    view = View(books.clock.now(), guessed_absent=request.likely_absent)
    outcome = await books.carry_out(view, lambda view: claim(view, request, books.terms))
    if isinstance(outcome, answers.Claimed):
        return Attempt(books, view, outcome.run, stop_reason=outcome.stop_reason)
    return outcome


async def claim_by_records(books: Books, run_id: str) -> "Attempt | None":
    """The next attempt at a run that ends by its records; None: it is not to be ended now.

    Raises:
        TemporaryError: the ledger can't be reached.
    """
    view = View(books.clock.now())
    run = await books.carry_out(
        view, lambda view: breakdowns.claim_by_records(view, run_id, books.terms)
    )
    return None if run is None else Attempt(books, view, run)


class Attempt:
    """A run in hand: what its holder may write, one write at a time.

    `possible_until` is when a start may last have been sent without our knowing, `sent_to` to
    which builder (None: to any), `sent_job` for which job identifier; with a `stop_reason` nothing
    more is to be started. Every write raises TakenOver once another attempt has the run.
    """

    def __init__(
        self, books: Books, view: View, run: RunRecord, *, stop_reason: str | None = None
    ) -> None:
        self.run = run
        self.stop_reason = stop_reason
        self.possible_until = run.possible_until
        self.sent_to = run.sent_to
        self.sent_job = run.sent_job
        self._books = books
        self._view = view
        self._one_at_a_time = asyncio.Lock()

    @property
    def start_key(self) -> str:
        """What the builder knows the run's start by: at most 64 characters."""
        return start_key(self.run.operation_id, self.run.start_number)

    async def find_operation(self) -> OperationRecord | None:
        """The operation of its starts, as it stands now."""
        return await self._books.find_operation(self.run.operation_id)

    async def is_over(self) -> bool:
        """The operation that the run opened has ended, without it or after it."""
        operation = await self.find_operation()
        if operation is None or operation.start_number < self.run.start_number:
            return False
        return operation.state is OperationState.OVER

    async def renew(self) -> None:
        """Hold the run for another lease."""
        await self.write(lambda view: settlements.renew(view, *self.fence, self._books.terms))

    async def record(self, progress: Progress) -> Orphaned | None:
        """Remember what was done; a job that can't be the operation's is given back."""
        outcome = await self.write(
            lambda view: settlements.record(view, *self.fence, progress, self._books.terms)
        )
        return outcome if isinstance(outcome, Orphaned) else None

    async def settle(self, settlement: Settlement) -> Written | Orphaned | Uncertain:
        """End the attempt; or say why it can't end like that."""
        outcome: Written | Orphaned | Uncertain = await self.write(
            lambda view: settlements.settle(view, *self.fence, settlement, self._books.terms)
        )
        return outcome

    async def go_on_by_records(self) -> None:
        """Find the operation that the run opened or ends by the ledger's items alone."""
        await self.write(lambda view: breakdowns.go_on_by_records(view, *self.fence))

    async def fail_alone(self, error: Failure, note: str) -> None:
        """End the run, and nothing with it."""
        await self.write(lambda view: breakdowns.fail_alone(view, *self.fence, error, note))

    @property
    def fence(self) -> tuple[str, int]:
        """The run's id and the attempt's number, by which a decision tells whether it may write."""
        return self.run.run_id, self.run.attempt

    async def write(self, decide: Decision[Any]) -> Any:
        """Carry out a decision that gives `Fenced` where it isn't allowed; what else it gives.

        Raises:
            TakenOver: another attempt has the run by now.
            TemporaryError: the ledger can't be reached.
        """
        async with self._one_at_a_time:
            self._view.turn_to(self._books.clock.now())
            outcome = await self._books.carry_out(self._view, decide)
        if isinstance(outcome, Fenced):
            raise TakenOver(self.run.run_id)
        if isinstance(outcome, Written):
            self.run = outcome.run
        return outcome


@asynccontextmanager
async def held(renew: Callable[[], Any], clock: Clock, *, lease_s: float) -> AsyncIterator[None]:
    """Have the lease renewed in time, as long as the context lasts."""

    async def keep() -> None:
        while True:
            await clock.sleep(lease_s / 3)
            try:
                with on_duty(Duty.RENEWAL):
                    await renew()
            except TakenOver as error:
                log.warning("lease lost", reason=str(error))
                return
            except OrchestratorError as error:
                log.warning("lease not renewed", reason=str(error))

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        # Until it is gone it may hold what a settlement has to take along.
        await asyncio.wait({task})


def _written(record: Record) -> Record:
    return attrs.evolve(record, version=record.version + 1)
