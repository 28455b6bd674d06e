"""The ledger's guarantees, tested on random timelines: workers pause, crash and resume too late.

Hypothesis chooses which worker continues and what fails; the real core does the rest, over the
ledger in memory and over DynamoDB. `SOAK=20` tries 60 times as many timelines.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from enum import StrEnum, auto
from itertools import count
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.adapters.aws import AWS, open_aws
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.events.event_types import OPENS, Kind
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.embedded import open_embedded_aws
from orchestrator.testing import ManualClock
from tests.integration.ledger_facts import Names
from tests.integration.ledger_scene import Edge, Scene
from tests.integration.ledger_worker import ORDER
from tests.integration.ledger_world import (
    CATALOGS,
    TIERS,
    Fate,
    Part,
    TurnedLoop,
    Unprintable,
)

Disturbance = str | tuple[str, Any]
MakeLedger = Callable[[ManualClock], Awaitable[Ledger]]


class Opening(StrEnum):
    """How far a timeline has come when the random part begins: each is a critical place."""

    SENT = auto()  # the request has arrived
    LEASE_ENDS = auto()  # it was claimed, the lease is about to expire, and it is redelivered
    ANSWER_LOST = auto()  # its start was made, the answer was lost, and the tier is gone
    BREAKS = auto()  # its start was made, and what the handler raises breaks the settle
    FAILS = auto()  # its start was made, and the handler fails before that is recorded
    TAKEN_OVER = auto()  # the worker that started the job is paused, and another finished the run
    REOPENED = auto()  # after that the job reported, and an operator forced a replay
    OVER = auto()  # the job has reported, and the worker that started it is still at work
    INSISTED = auto()  # besides, the same is requested again, and an operator forces that


_WORKERS = st.integers(0, 2)
_PICK = st.integers(0, 9)
_STATUSES = st.sampled_from([one for one in JobStatus if one is not JobStatus.IN_PROGRESS])
_KINDS = st.sampled_from([Kind.PROVISIONING, Kind.DEPLOYMENT, Kind.DEPROVISIONING, None])
_KEYS = st.sampled_from(["k1", None, "k2"])
_TIERS = st.sampled_from([*TIERS, None])
_PAUSES: st.SearchStrategy[float | Edge] = st.sampled_from([*Edge, 0.5, 2.0, 20.0, 60.0, 305.0])
_OFFSETS = st.sampled_from([0.0, -1.0, 1.0])
_FATES = st.sampled_from([Fate.DONE, Fate.HELD, *Fate])
_DISTURBING: st.SearchStrategy[Disturbance] = st.one_of(
    st.sampled_from(["crash", "cancel"]),
    st.tuples(st.just("clock"), _OFFSETS),
    st.tuples(st.just("tiers"), st.sampled_from(sorted(CATALOGS))),
    st.tuples(st.just("lag"), st.sampled_from([30.0, 0.0, 60.0])),
    st.tuples(
        st.just("handler"),
        st.sampled_from([None, PermanentError, TemporaryError, RuntimeError, Unprintable]),
    ),
    st.tuples(st.just("breaks"), st.sampled_from([None, *Part])),
)
#: The most of each in one timeline: with more of them a timeline makes no progress.
_REQUESTS, _REPORTS, _REPETITIONS, _DISTURBANCES, _REBUILDS = 4, 4, 6, 8, 2
_EVENT_TYPES = {kind: event_type for event_type, kind in OPENS.items()}


class LedgerMachine(RuleBasedStateMachine):
    """Three workers over one ledger, and all faults that may happen to them."""

    loop: ClassVar[TurnedLoop]
    make_ledger: ClassVar[MakeLedger]

    def __init__(self) -> None:
        super().__init__()
        clock, make_ledger = ManualClock(), type(self).make_ledger

        async def make() -> Ledger:
            return await make_ledger(clock)

        self.scene = Scene(self.loop, self.loop.run_until_complete(make()), clock)
        self.repetitions = self.disturbances = self.rebuilds = 0

    @initialize(
        skews=st.sampled_from([(0.0, 0.0, 0.0), (-1.0, 1.0, 0.0), (1.0, -1.0, 0.0)]),
        kind=_KINDS,
        key=_KEYS,
        tier=st.sampled_from(TIERS),
        opening=st.sampled_from(Opening),
    )
    def begin(
        self,
        skews: tuple[float, float, float],
        kind: Kind | None,
        key: str | None,
        tier: str,
        opening: Opening,
    ) -> None:
        scene = self.scene
        (first, _), (second, _), _ = scene.workers
        for (worker, _), skew in zip(scene.workers, skews, strict=True):
            worker.offset_s = skew
        self.ask(0, kind, key, tier, welcomes=True)
        match opening:
            case Opening.LEASE_ENDS:
                scene.let_through(first, 1)
                scene.turn_to(Edge.LEASE)
                scene.deliver(1, scene.sent[0])
            case Opening.ANSWER_LOST:
                scene.let_through(first, 1)
                scene.decide(scene.gates()[0], Fate.LOST_DONE)
                scene.let_through(first, 3)
                scene.world.catalog = CATALOGS["gone"]
            case Opening.FAILS | Opening.BREAKS:
                fails = opening is Opening.FAILS
                scene.world.after_start = PermanentError if fails else Unprintable
                scene.let_through(first, 2)
            case Opening.TAKEN_OVER | Opening.REOPENED:
                scene.let_through(first, 2)
                scene.turn_to(Edge.DUE)
                scene.sweep(1)
                scene.let_through(second, 9)
            case Opening.OVER | Opening.INSISTED:
                scene.let_through(first, 3)
        if opening in (Opening.REOPENED, Opening.OVER, Opening.INSISTED):
            for build in scene.reportable():
                scene.report(1, build, True, Names.JOB, True)
            scene.let_through(second, 9)
        if opening is Opening.INSISTED:
            self.ask(1, kind, key, tier, welcomes=True)
            scene.let_through(second, 9)
        if opening in (Opening.REOPENED, Opening.INSISTED):
            runs = scene.watch.runs()
            scene.replay(1, runs[0 if opening is Opening.REOPENED else -1], is_forced=True)
            scene.let_through(second, 2)

    # Events that arrive.

    @precondition(lambda self: self.scene.requests < _REQUESTS)
    @rule(
        by=_WORKERS,
        kind=_KINDS,
        key=_KEYS,
        tier=_TIERS,
        welcomes=st.booleans(),
        sent_s=st.sampled_from([0.0, -600.0, 600.0, None]),
    )
    def ask(
        self,
        by: int,
        kind: Kind | None,
        key: str | None,
        tier: str | None,
        welcomes: bool,
        sent_s: float | None = 0.0,
    ) -> None:
        """A request with the key, or with a key of its own; `kind` None is an order."""
        override = {"context": key, "secret": "s"} if key else {}
        detail: dict[str, Any] = {
            "tenant": {"id": "t1"},
            "builderConfig": {"config": {"environmentOverride": override}},
            "welcomes": welcomes,
        }
        if tier is not None:
            detail["planConfig"] = {"tier": tier}
        event_type = _EVENT_TYPES[kind] if kind else ORDER
        self.scene.request(by, event_type, detail, key=key, sent_s=sent_s)

    @precondition(lambda self: self.repetitions < _REPETITIONS)
    @rule(by=_WORKERS, which=_PICK)
    def ask_again(self, by: int, which: int) -> None:
        self.repetitions += 1
        self.scene.deliver(by, self.scene.sent[which % len(self.scene.sent)])

    @precondition(lambda self: self.scene.watch.runs() and self.repetitions < _REPETITIONS)
    @rule(by=_WORKERS, which=_PICK, is_forced=st.sampled_from([True, False]))
    def replay(self, by: int, which: int, is_forced: bool) -> None:
        self.repetitions += 1
        runs = self.scene.watch.runs()
        self.scene.replay(by, runs[which % len(runs)], is_forced=is_forced)

    @precondition(lambda self: self.scene.reportable() and self.scene.reports < _REPORTS)
    @rule(
        by=_WORKERS,
        which=_PICK,
        succeeded=st.booleans(),
        names=st.sampled_from(Names),
        is_over=st.booleans(),
    )
    def report(self, by: int, which: int, succeeded: bool, names: Names, is_over: bool) -> None:
        builds = self.scene.reportable()
        self.scene.report(by, builds[which % len(builds)], succeeded, names, is_over)

    @precondition(lambda self: self.scene.world.builds)
    @rule(by=_WORKERS, which=_PICK, status=_STATUSES, is_published=st.booleans())
    def end(self, by: int, which: int, status: JobStatus, is_published: bool) -> None:
        """A build ends; CodeBuild sends its state change, or only the sweep notices."""
        builds = self.scene.world.builds
        build = builds[which % len(builds)]
        if build.is_running:
            self.scene.end(by, build, status, is_published=is_published)

    @precondition(lambda self: self.scene.is_quiet() and self.disturbances < _DISTURBANCES)
    @rule(which=_PICK)
    def forget(self, which: int) -> None:
        """The builder discards a build that is over, once its job is recorded and no run is in
        progress."""
        self.disturbances += 1
        scene = self.scene
        over = [one for one in scene.world.builds if not one.is_running]
        known = [one for one in over if scene.watch.is_recorded(one.job.id)]
        if known:
            scene.forget(known[which % len(known)])

    @precondition(lambda self: self.scene.world.builds and self.disturbances < _DISTURBANCES)
    @rule(by=_WORKERS, which=_PICK)
    def run_again(self, by: int, which: int) -> None:
        """A build that is over runs again under its id: its end is claimed, or no run is about to
        claim it."""
        self.disturbances += 1
        scene = self.scene
        keys = [one.start_key for one in scene.world.builds]
        able = [
            one
            for one in scene.world.builds
            if not one.is_running
            and not one.is_forgotten
            and one.runs == 1
            and keys.count(one.start_key) == 1
            and scene.watch.is_recorded(one.job.id)
            and (scene.is_quiet() or not scene.watch.is_unclaimed(one.start_key))
        ]
        if able:
            scene.run_again(by, able[which % len(able)])

    @precondition(lambda self: self.scene.world.builds and self.rebuilds < _REBUILDS)
    @rule(which=_PICK)
    def build_again(self, which: int) -> None:
        """A build fails, and the builder makes the next one under its start key."""
        self.rebuilds += 1
        running = [one for one in self.scene.world.builds if one.is_running and not one.is_stray]
        if running:
            self.scene.build_again(running[which % len(running)])

    @precondition(lambda self: self.scene.watch.operations() and self.repetitions < _REPETITIONS)
    @rule(by=_WORKERS)
    def cancel(self, by: int) -> None:
        """An operator cancels the tenant's operation."""
        self.repetitions += 1
        self.scene.cancel(by)

    # The fates of effects.

    @precondition(lambda self: self.scene.gates())
    @rule(which=_PICK, fate=_FATES)
    def decide(self, which: int, fate: Fate) -> None:
        """One effect takes place, doesn't, or its answer is lost."""
        gates = self.scene.gates()
        self.scene.decide(gates[which % len(gates)], fate)

    @precondition(lambda self: self.scene.gates())
    @rule(which=_PICK, effects=st.integers(1, 5))
    def go_on(self, which: int, effects: int) -> None:
        """One worker continues undisturbed."""
        gates = self.scene.gates()
        self.scene.let_through(gates[which % len(gates)].worker, effects)

    @precondition(lambda self: self.scene.gates())
    @rule(by=_WORKERS)
    def go_on_without(self, by: int) -> None:
        """One worker is paused, and the others complete their effects."""
        for index, (worker, _) in enumerate(self.scene.workers):
            if index != by:
                self.scene.let_through(worker, 30)

    @rule(pause=_PAUSES, sweeper=st.sampled_from([0, 1, 2, None]))
    def wait(self, pause: float | Edge, sweeper: int | None) -> None:
        """Time passes; then one worker sweeps, or none."""
        if isinstance(pause, Edge):
            self.scene.turn_to(pause)
        else:
            self.scene.turn(pause)
        if sweeper is not None:
            self.scene.sweep(sweeper)

    @precondition(lambda self: self.disturbances < _DISTURBANCES)
    @rule(by=_WORKERS, which=_PICK, event=_DISTURBING)
    def disturb(self, by: int, which: int, event: Disturbance) -> None:
        self.disturbances += 1
        world, (worker, _) = self.scene.world, self.scene.workers[by]
        world.tell(f"{worker.name}: {event}")
        match event:
            case "crash":
                self.scene.crash(by)
            case "cancel":
                deeds = [deed for deed in self.scene.deeds if deed.worker is worker]
                if deeds:
                    deeds[which % len(deeds)].task.cancel()
            case ("clock", float() as offset_s):
                worker.offset_s = offset_s
            case ("tiers", str() as catalog):
                world.catalog = CATALOGS[catalog]
            case ("lag", float() as lag_s):
                world.lag_s = lag_s
            case ("handler", fault):
                world.after_start = fault
            case ("breaks", part):
                world.breaks = part
        self.scene.go_on()

    # The invariants.

    @invariant()
    def holds(self) -> None:
        self.scene.watch.look()
        if self.scene.watch.broken:
            note("\n".join(self.scene.world.story))
        assert not self.scene.watch.broken, self.scene.watch.broken

    def teardown(self) -> None:
        try:
            if not self.scene.watch.broken:
                self.scene.come_to_an_end()
                self.holds()
        finally:
            self.scene.close()


def search(loop: TurnedLoop, make_ledger: MakeLedger, *, timelines: int) -> None:
    """Try so many timelines over ledgers that `make_ledger` makes; with SOAK=n 3n times as many,
    and if n is more than 1, different ones each time."""
    soak = int(os.environ.get("SOAK", "0"))
    parts = {"loop": loop, "make_ledger": staticmethod(make_ledger)}
    machine = type(LedgerMachine.__name__, (LedgerMachine,), parts)
    configured = structlog.get_config()
    # The orchestrator logs every attempt: here that would be millions of lines.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=timelines * (3 * soak or 1),
                stateful_step_count=60,
                derandomize=soak <= 1,
                deadline=None,
                database=None,
                print_blob=False,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink],
            ),
        )
    finally:
        structlog.configure(**configured)


@pytest.fixture
def loop() -> Iterator[TurnedLoop]:
    loop = TurnedLoop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.timeout(600)
def test_no_timeline_breaks_a_promise_in_memory(loop: TurnedLoop) -> None:
    """Whatever happens in whatever order, no tenant is lost, served twice or released too early."""

    async def make_ledger(clock: ManualClock) -> Ledger:
        return InMemoryLedger()

    search(loop, make_ledger, timelines=100)


@pytest.mark.timeout(600)
def test_no_timeline_breaks_a_promise_over_dynamodb(
    loop: TurnedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same guarantees hold when the ledger is a DynamoDB table."""
    stack = AsyncExitStack()

    async def open_all() -> AWS:
        embedded = await stack.enter_async_context(open_embedded_aws())
        for name, value in embedded.environment().items():
            monkeypatch.setenv(name, value)
        return await stack.enter_async_context(
            open_aws(
                dynamodb_region=None,
                events_region=None,
                connect_timeout_s=30.0,
                read_timeout_s=30.0,
            )
        )

    aws, numbers = loop.run_until_complete(open_all()), count()

    async def pause(seconds: float) -> None:
        await asyncio.sleep(0)

    async def make_ledger(clock: ManualClock) -> Ledger:
        table = f"ledger-{next(numbers)}"
        ledger = DynamoDBLedger(aws.dynamodb, clock, table=table, retention_days=1, pause=pause)
        await ledger.create()
        return ledger

    try:
        search(loop, make_ledger, timelines=7)
    finally:
        loop.run_until_complete(stack.aclose())
