"""The sweep: queries the ledger for due items and handles each. The service has no other timer.

    find a page ──► read it ──► runs ······ at most 20 at once ····· resume
         ▲                  ├──► jobs ······ a wave for each builder · describe, end
         └── the next one   ├──► reports ··· at most 10 at once ····· send
                            └──► secrets ··· at most 5 at once ······ remove

It writes nothing itself: each item is claimed, so all replicas may sweep concurrently. Each starts
at another place of the index, and a process runs one query at a time: the more items are due, the
longer a sweep takes, and the fewer sweeps there are.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import attrs
import structlog

from orchestrator.core.clock import Clock, Dice
from orchestrator.core.dispatch.lanes import Lane, Pace, Work
from orchestrator.core.errors import OrchestratorError, TemporaryError
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.bulkheads import Duty, on_duty
from orchestrator.core.ledger.guarding import guarded
from orchestrator.core.ledger.guards import is_due
from orchestrator.core.ledger.ledger import UnreadableItems
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import (
    Due,
    OperationRecord,
    RunRecord,
    SecretsRecord,
    operation_key,
    run_key,
    secrets_key,
)
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.metrics import (
    NO_METRICS,
    OPERATION_OLDEST_AGE,
    OPERATIONS_OPEN,
    SWEEP_LAST_SUCCESS,
)
from orchestrator.core.tasks import cancelled_at_exit, finish_within, gather_or_cancel
from orchestrator.core.tracing import NO_TRACING, Tracing

#: How many due items are read at once.
_PAGE = 50
#: The number of places at which a sweep may start.
_STARTS = 1 << 16
#: How many jobs of one builder are described in one query.
_LOOKS = 25
#: How long (seconds) a sweep waits for room in a lane; then the lane's other items stay due.
_PATIENCE_S = 30.0
#: More open operations of a kind than these are not counted: a query reads each that it counts.
_MOST_COUNTED = 1000
#: How long (seconds) those of a kind are counted; then the metrics stay as they were.
_COUNT_S = 10.0

log = structlog.get_logger("orchestrator.sweep")


@attrs.frozen
class SweepResult:
    """How many items a sweep began to handle; whether the time ran out before all were done; and
    whether it joined another sweep."""

    begun: int
    timed_out: bool = False
    joined: bool = False


@attrs.define(kw_only=True)
class Sweeper:
    """The sweeps of one process.

    `resume` gets the id of a run, `look` the ids of operations whose jobs, of one builder, are due
    to be checked, `report` that of an operation whose report is due, `clear` the key of a start
    whose secrets are due to be removed.
    """

    transactions: Transactions
    dice: Dice
    tracing: Tracing = NO_TRACING
    resume: Callable[[str], Awaitable[object]]
    look: Work
    report: Callable[[str], Awaitable[object]]
    clear: Callable[[str], Awaitable[object]]
    #: How many sweeps were requested, also those that joined another.
    requested: int = attrs.field(init=False, default=0)
    _runs: Lane = attrs.field(init=False)
    _reports: Lane = attrs.field(init=False)
    _secrets: Lane = attrs.field(init=False)
    _jobs: dict[str, Lane] = attrs.field(init=False, factory=dict)
    _finding: "_Sweep | None" = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        # A run renews its lease, so it has no time limit.
        self._runs = Lane("runs", self._one_by_one(run_key, self.resume), 20, limit_s=None)
        self._reports = Lane("reports", self._one_by_one(operation_key, self.report), 10)
        self._secrets = Lane("secrets", self._one_by_one(secrets_key, self.clear), 5)

    async def sweep(self, *, timeout_s: float | None = None) -> SweepResult:
        """Handle the items that are due now, for at most `timeout_s` (None: to the end).

        A call joins a sweep that is still querying for due items. Runs that exceed the time are
        handed back, and the rest stays due.

        Raises:
            TemporaryError: ledger or builder can't be reached; all other items were handled.
        """
        self.requested += 1
        clock, other = self.transactions.clock, self._finding
        if other is not None:
            return await other.join(clock, timeout_s)
        until = None if timeout_s is None else clock.now() + timedelta(seconds=timeout_s)
        one = self._finding = _Sweep(self, until)
        try:
            with on_duty(Duty.SWEEP), self.tracing.span("sweep"):
                await finish_within(clock, timeout_s, one.run())
        except TimeoutError:
            one.lacks_time = one.lacks_time or not one.has_handled_all
        finally:
            self.has_found(one)
            one.is_over.set()
        swept = one.swept()
        log.info(
            "swept",
            begun=swept.begun,
            timed_out=swept.timed_out,
            oldest_unfinished_s=one.oldest_unfinished_s,
        )
        return swept

    def has_found(self, one: "_Sweep") -> None:
        """Whether all due items have been begun, so that the next sweep may begin."""
        if self._finding is one:
            self._finding = None

    def lane_of(self, item: Due) -> tuple[Lane, str]:
        """The lane of an item, and its id there."""
        match item:
            case RunRecord():
                return self._runs, item.run_id
            case SecretsRecord():
                return self._secrets, item.start_key
            case OperationRecord(state=OperationState.OPEN, job=Job(builder=name)):
                lane = self._jobs.setdefault(name, Lane(f"jobs of {name}", self.look, 1, _LOOKS))
                return lane, item.operation_id
            case OperationRecord():
                return self._reports, item.operation_id

    def _one_by_one(
        self, key_of: Callable[[str], str], deal_with: Callable[[str], Awaitable[object]]
    ) -> Work:
        async def work(ids: Sequence[str]) -> None:
            for one in ids:
                await guarded(self.transactions, key_of(one), partial(deal_with, one))

        return work


@attrs.define(eq=False)
class _Sweep:
    """One sweep, with or without a deadline.

    `oldest_unfinished_s` is the age (seconds) of the oldest run or open operation that is due. The
    job of an open operation is due at each check, so all that is unfinished is seen.
    `has_handled_all`: what it began has ended.
    """

    sweeper: Sweeper
    until: datetime | None
    begun: int = 0
    oldest_unfinished_s: int = 0
    lacks_time: bool = False
    has_handled_all: bool = False
    trouble: TemporaryError | None = None
    is_over: asyncio.Event = attrs.field(factory=asyncio.Event)
    _seen: set[str] = attrs.field(factory=set)
    _paces: dict[str, Pace] = attrs.field(factory=dict)
    _full: set[str] = attrs.field(factory=set)
    _waves: set[asyncio.Task[None]] = attrs.field(factory=set)

    async def run(self) -> None:
        try:
            await self._find()
            self.sweeper.has_found(self)
            async with cancelled_at_exit(self._count_open()) as counting:
                while self._waves:
                    await asyncio.wait(self._waves)
                self.has_handled_all = True
                await counting
        finally:
            for wave in self._waves:
                wave.cancel()
            while self._waves:
                await asyncio.wait(self._waves)

    async def join(self, clock: Clock, timeout_s: float | None) -> SweepResult:
        """Its result, for another caller that joined this sweep."""
        try:
            await finish_within(clock, timeout_s, self.is_over.wait())
        except TimeoutError:
            return SweepResult(0, timed_out=True, joined=True)
        return evolve(self.swept(), joined=True)

    def swept(self) -> SweepResult:
        """Raises TemporaryError if ledger or builder couldn't be reached in time, or the sweep was
        cancelled or broke down."""
        if self.trouble is not None and not self.lacks_time:
            raise self.trouble
        if not self.has_handled_all and not self.lacks_time:
            raise TemporaryError("The sweep broke off before all due items were handled.")
        return SweepResult(self.begun, timed_out=self.lacks_time)

    async def _find(self) -> None:
        """Begin all due items, page by page."""
        transactions, dice = self.sweeper.transactions, self.sweeper.dice
        before, start = transactions.clock.now(), dice.pick(_STARTS)
        cursor: str | None = None
        try:
            while True:
                page = await transactions.ledger.find_due(
                    before=before, limit=_PAGE, start=start, cursor=cursor
                )
                fresh = [key for key in page.items if key not in self._seen]
                self._seen.update(fresh)
                if fresh:
                    first = dice.pick(len(fresh))
                    await self._begin_all(await self._read([*fresh[first:], *fresh[:first]]))
                cursor = page.cursor
                if cursor is None:
                    break
        except TemporaryError as error:
            self.trouble = error
        else:
            transactions.metrics.set(SWEEP_LAST_SUCCESS, transactions.clock.now().timestamp())

    async def _count_open(self) -> None:
        """Measure the operations under way, while the sweep handles what is due."""
        transactions = self.sweeper.transactions
        if transactions.metrics is NO_METRICS or self.trouble is not None:
            return
        for kind in Kind:
            try:
                await finish_within(transactions.clock, _COUNT_S, self._count_open_of(kind))
            except Exception as error:  # noqa: BLE001 - no sweep fails for a metric
                reason = str(error) or type(error).__name__
                log.warning("open operations not counted", kind=kind.value, reason=reason)
                return

    async def _count_open_of(self, kind: Kind) -> None:
        transactions = self.sweeper.transactions
        metrics, now = transactions.metrics, transactions.clock.now()
        found = await transactions.ledger.count_open(kind, most=_MOST_COUNTED)
        age_s = (now - found.oldest).total_seconds() if found.oldest else 0.0
        metrics.set(OPERATIONS_OPEN, found.count, kind.value)
        metrics.set(OPERATION_OLDEST_AGE, max(0.0, age_s), kind.value)

    async def _read(self, keys: Sequence[str]) -> list[Due]:
        """Read the items, and keep those that are really due. Items that can't be read stay due:
        for a release that can parse them, or until the ledger answers."""
        transactions = self.sweeper.transactions
        try:
            found = await transactions.ledger.load(keys)
        except UnreadableItems as error:
            log.error("due items can't be read", reason=str(error))
            found = error.found
        except TemporaryError as error:
            log.warning("due items not read", reason=str(error))
            return []
        now = transactions.clock.now()
        items = (found.get(key) for key in keys)
        due = [item for item in items if isinstance(item, Due) and is_due(item, now)]
        for began in filter(None, map(_unfinished_since, due)):
            age_s = int((now - began).total_seconds())
            self.oldest_unfinished_s = max(self.oldest_unfinished_s, age_s)
        return due

    async def _begin_all(self, items: Sequence[Due]) -> None:
        lanes: dict[Lane, list[str]] = {}
        for item in items:
            lane, name = self.sweeper.lane_of(item)
            lanes.setdefault(lane, []).append(name)
        await gather_or_cancel(self._begin(lane, names) for lane, names in lanes.items())

    async def _begin(self, lane: Lane, names: list[str]) -> None:
        """Begin items in their lane, as soon as there is room and while there is time."""
        pace = self._paces.setdefault(lane.name, Pace())
        while names:
            if lane.name in self._full or not await self._has_room(lane):
                self._full.add(lane.name)
                log.warning("no room: the rest stays due", lane=lane.name, left=len(names))
                return
            size = pace.size(lane.size, self._left_s())
            if not size:
                lane.room.release()
                self.lacks_time = True
                return
            wave, names = names[:size], names[size:]
            self.begun += len(wave)
            task = asyncio.create_task(self._deal_with(lane, wave, pace))
            self._waves.add(task)
            task.add_done_callback(partial(self._has_ended, lane))

    async def _has_room(self, lane: Lane) -> bool:
        """Take room in the lane; False if there is none, such as while a builder hangs."""
        if not lane.room.locked():
            return await lane.room.acquire()
        clock, taking = self.sweeper.transactions.clock, asyncio.ensure_future(lane.room.acquire())
        try:
            return await finish_within(clock, _PATIENCE_S, taking)
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            # Room that was taken in the same moment would never be given back.
            if taking.done() and not taking.cancelled():
                lane.room.release()
            raise

    async def _deal_with(self, lane: Lane, wave: Sequence[str], pace: Pace) -> None:
        clock = self.sweeper.transactions.clock
        began = clock.now()
        try:
            trouble = await finish_within(clock, lane.limit_s, lane.work(wave))
        except TimeoutError:
            log.error("cut off", lane=lane.name, after_s=lane.limit_s, items=wave)
        except Exception as bug:
            # Errors of items are recorded with them; this is an error of the wave itself.
            log.error("wave failed", lane=lane.name, items=wave, exc_info=bug)
        else:
            self.trouble = trouble or self.trouble
        pace.note(len(wave), (clock.now() - began).total_seconds())

    def _has_ended(self, lane: Lane, wave: asyncio.Task[None]) -> None:
        lane.room.release()
        self._waves.discard(wave)

    def _left_s(self) -> float | None:
        if self.until is None:
            return None
        return (self.until - self.sweeper.transactions.clock.now()).total_seconds()


def _unfinished_since(item: Due) -> datetime | None:
    """When the run was first seen or the operation opened; None: it has ended."""
    match item:
        case RunRecord():
            return item.first_seen
        case OperationRecord(state=OperationState.OPEN):
            return item.opened_at
        case _:
            return None


@asynccontextmanager
async def swept_regularly(
    reconcile: Callable[[], Awaitable[SweepResult]], clock: Clock, *, every_s: float
) -> AsyncIterator[None]:
    """Begin a sweep every `every_s` seconds, for the life of the context.

    It doesn't wait for the items that the last sweep began, so a slow handler doesn't delay it. A
    sweep that is still querying for due items is joined.
    """
    sweeps: set[asyncio.Task[None]] = set()

    async def sweep_once() -> None:
        try:
            await reconcile()
        except OrchestratorError as error:
            log.warning("sweep failed", reason=str(error))
        except Exception as error:
            # The next sweep begins, whatever this one raised.
            log.error("sweep failed", exc_info=error)

    async def keep_sweeping() -> None:
        while True:
            await clock.sleep(every_s)
            task = asyncio.create_task(sweep_once())
            sweeps.add(task)
            task.add_done_callback(sweeps.discard)

    timer = asyncio.create_task(keep_sweeping())
    try:
        yield
    finally:
        timer.cancel()
        under_way = set(sweeps)
        for task in under_way:
            task.cancel()
        await asyncio.gather(timer, *under_way, return_exceptions=True)
