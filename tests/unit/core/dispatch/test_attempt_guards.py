"""What an attempt does before and after its settle, so that no start and no tenant is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import (
    Event,
    Extension,
    HandlerFailed,
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
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Record,
    RunRecord,
    RunStatus,
)
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
class Narrow(DeskLedger):
    """It refuses for good what the test says."""

    refuses: Callable[[Sequence[Record]], bool] = lambda records: False

    def __attrs_post_init__(self) -> None:
        DeskLedger.__init__(self)

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        if self.refuses(records):
            raise PermanentError("too large")
        await DeskLedger.commit(self, records, unchanged=unchanged)


class DownCatalog:
    """Nobody can be asked about tiers."""

    async def find_tier(self, tier: str) -> Tier | None:
        raise TemporaryError("catalog down")


@attrs.define
class Heard:
    """A webhook that takes everything."""

    told: list[str] = attrs.field(factory=list)

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        self.told.append(url)
        return WebhookAnswer(status=204)


def has_steps(records: Sequence[Record]) -> bool:
    return any(isinstance(record, RunRecord) and record.steps for record in records)


def has_more_than_its_end(records: Sequence[Record]) -> bool:
    """A settle with anything besides the bare fact."""
    ends = [one for one in records if isinstance(one, RunRecord) and one.ended_at is not None]
    is_bare = all(one.note is None and one.error and one.error.message == BARE for one in ends)
    return bool(ends) and not (is_bare and not any(isinstance(o, PayloadRecord) for o in records))


@attrs.frozen
class Scene:
    orchestrator: Orchestrator
    ledger: DeskLedger
    clock: ManualClock
    builder: Forgetful
    webhook: Heard

    async def send(self, event: Mapping[str, Any] = REQUEST) -> Exception | None:
        """What whoever sends the event is told; None: it is handled."""
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
        """The tenant was never anybody's."""
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
    registry, ledger, webhook = HandlerRegistry(), ledger or DeskLedger(), Heard()
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


async def take_a_step(event: Event[Any], run: Run) -> None:
    async def action() -> str:
        return "more than fits"

    await run.step("large", action)


# --- before an operation ends without a job -----------------------------------------------------


async def test_a_refusal_looks_up_first_what_an_earlier_attempt_started(
    clock: ManualClock,
) -> None:
    """The run fails, and the operation goes on with the job."""
    async with opened(clock, TENANT_PROVISIONING=first_starts(refuse)) as scene:
        assert isinstance(await scene.send(), TemporaryError)
        run = scene.run()
        assert (run.sent_to, run.sent_job, run.possible_until) == (
            "CODE_BUILD",
            "build",
            clock.now(),
        )
        assert isinstance(await scene.send(), PermanentError)
        assert (scene.run().status, scene.run().job) == ("failed", scene.job)
        assert (scene.operation.state, scene.operation.job) == ("open", scene.job)
        assert scene.builder.looks == 1
        assert scene.webhook.told == []


async def test_what_ends_without_a_job_is_told_once_none_is_certain(clock: ManualClock) -> None:
    """The tenant is free, and whoever asked for it hears of the refusal."""
    builder = Forgetful("CODE_BUILD", made=False)
    handler = first_starts(refuse)
    async with opened(clock, builder=builder, TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        clock.turn(LONG_S)
        assert isinstance(await scene.send(), PermanentError)
        assert (scene.run().status, scene.run().possible_until) == ("failed", None)
        assert scene.operation.state == "given_back"
        assert await scene.is_free()
        assert scene.webhook.told == [URL]
        assert scene.operation.report is not None
        assert scene.operation.report.was_accepted


@pytest.mark.parametrize("then", [refuse, complete])
async def test_nothing_ends_while_none_is_uncertain(clock: ManualClock, then: Act) -> None:
    """Whether it failed or is done: the sender is told of the start that may be out."""
    builder = Forgetful("CODE_BUILD", made=False)
    async with opened(clock, builder=builder, TENANT_PROVISIONING=first_starts(then)) as scene:
        await scene.send()
        sent = clock.now()
        clock.turn(6)
        error = await scene.send()
        assert isinstance(error, TemporaryError)
        assert "doesn't list yet" in str(error)
        run = scene.run()
        assert (run.status, run.possible_until, run.bugs) == ("retry", sent, 0)
        assert (scene.operation.state, scene.webhook.told) == ("open", [])


async def test_a_bug_is_counted_while_none_is_uncertain(clock: ManualClock) -> None:
    """Attempts come to an end; the start that may be out is not forgotten with them."""
    builder = Forgetful("CODE_BUILD", made=False)
    handler = first_starts(stumble)
    async with opened(clock, builder=builder, max_attempts=1, TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        sent = clock.now()
        clock.turn(6)
        assert isinstance(await scene.send(), HandlerFailed)
        run = scene.run()
        assert (run.status, run.bugs, run.possible_until) == ("retry", 1, sent)
        assert run.due_at == clock.now() + timedelta(seconds=5)


async def test_a_look_up_that_is_cancelled_hands_the_run_back(clock: ManualClock) -> None:
    """It is due at once, rather than at its lease's end."""
    asked = asyncio.Event()

    class Hangs(Forgetful):
        async def find_job(
            self, *, start_key: str, job_identifier: str, started_after: datetime
        ) -> Job | None:
            asked.set()
            await asyncio.Event().wait()
            return None

    handler = first_starts(refuse)
    async with opened(clock, builder=Hangs("CODE_BUILD"), TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        task = asyncio.create_task(scene.send())
        await asked.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert scene.run().status == "retry"


async def test_no_builder_is_asked_where_nothing_can_be_out(clock: ManualClock) -> None:
    """Neither by a first refusal, nor with a job that is known, nor while it goes on."""

    async def find_and_refuse(event: Event[Any], run: Run) -> None:
        if run.attempt == 2:
            raise TemporaryError("not now")
        await run.start_job("build", {})
        raise PermanentError("no")

    async with opened(clock, TENANT_PROVISIONING=refuse) as scene:
        await scene.send()
        assert scene.builder.looks == 0
    async with opened(clock, TENANT_PROVISIONING=find_and_refuse) as scene:
        await scene.send()
        assert "not now" in str(await scene.send())
        assert scene.builder.looks == 0
        await scene.send()
        assert (scene.run().status, scene.builder.looks) == ("failed", 1)


@pytest.mark.parametrize(
    ("act", "error", "status"),
    [(refuse, TemporaryError, "retry"), (stumble, HandlerFailed, "failed")],
)
async def test_a_refusal_waits_until_its_address_is_known_and_a_bug_does_not(
    clock: ManualClock, act: Act, error: type[Exception], status: str
) -> None:
    """The tier has the address, and can't be asked for it; a bug's attempts come to an end."""
    async with opened(
        clock, tiers=DownCatalog(), url=None, max_attempts=1, TENANT_PROVISIONING=act
    ) as scene:
        told = await scene.send()
        assert type(told) is error
        assert (scene.run().status, scene.run().bugs) == (status, int(act is stumble))
        is_noted = "catalog down" in (scene.run().note or "")
        assert is_noted is (act is stumble)


# --- attempts that are used up ---------------------------------------------------------------


@pytest.mark.parametrize("made", [True, False])
async def test_after_the_last_bug_the_job_is_looked_up_and_nothing_is_started(
    clock: ManualClock, made: bool
) -> None:
    """The last attempt that there may be has left a start behind."""
    calls = list[int]()

    async def handler(event: Event[Any], run: Run) -> None:
        calls.append(run.attempt)
        await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", made=made, error=ValueError("a bug of the builder's"))
    async with opened(clock, builder=builder, max_attempts=1, TENANT_PROVISIONING=handler) as scene:
        builder.is_listed = False
        assert isinstance(await scene.send(), HandlerFailed)
        assert (scene.run().status, scene.run().bugs) == ("retry", 1)
        builder.is_listed = True
        clock.turn(LONG_S)
        told = await scene.send()
        assert calls == ([1, 2] if made else [1])
        if made:
            assert told is None
            assert (scene.run().status, scene.operation.job) == ("succeeded", scene.job)
        else:
            assert isinstance(told, PermanentError)
            assert scene.run().status == "failed"
            assert await scene.is_free()


async def test_an_event_that_opens_nothing_is_tried_after_its_last_bug(clock: ManualClock) -> None:
    """It fails at the last attempt, whatever may be out, and is a new attempt when it comes."""
    calls = list[int]()

    async def handler(event: Event[Any], run: Run) -> None:
        calls.append(run.attempt)
        await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", error=ValueError("a bug of the builder's"))
    async with opened(clock, builder=builder, max_attempts=1, ORDER=handler) as scene:
        assert isinstance(await scene.send(ORDER), HandlerFailed)
        assert (scene.run("ORDER").status, scene.all(OperationRecord)) == ("failed", [])
        await scene.send(ORDER)
        assert calls == [1, 2]


@pytest.mark.parametrize("made", [True, False])
async def test_the_last_bug_fails_a_run_with_its_job(clock: ManualClock, made: bool) -> None:
    """Nothing is in doubt once the job of an earlier start is found, or none was sent."""

    async def handler(event: Event[Any], run: Run) -> None:
        if made:
            await run.start_job("build", {})
        raise ValueError("a bug")

    async with opened(clock, max_attempts=1, TENANT_PROVISIONING=handler) as scene:
        if made:
            assert isinstance(await scene.send(), TemporaryError)
        assert isinstance(await scene.send(), HandlerFailed)
        assert (scene.run().status, scene.run().bugs) == ("failed", 1)


# --- what the ledger can't keep ---------------------------------------------------------------


async def test_steps_that_cannot_be_kept_end_by_a_look_up(clock: ManualClock) -> None:
    """The job whose answer was lost is the operation's; the run fails by the ledger's refusal."""

    async def handler(event: Event[Any], run: Run) -> None:
        try:
            await run.start_job("build", {})
        finally:
            await take_a_step(event, run)

    ledger = Narrow(refuses=has_steps)
    async with opened(clock, ledger=ledger, TENANT_PROVISIONING=handler) as scene:
        told = await scene.send()
        assert isinstance(told, PermanentError)
        assert (scene.run().status, scene.operation.job) == ("failed", scene.job)


async def test_a_request_whose_steps_cannot_be_kept_is_refused(clock: ManualClock) -> None:
    """Whoever asked for it is told, as of any other refusal."""
    ledger = Narrow(refuses=has_steps)
    async with opened(clock, ledger=ledger, TENANT_PROVISIONING=take_a_step) as scene:
        assert isinstance(await scene.send(), PermanentError)
        assert await scene.is_free()
        assert scene.webhook.told == [URL]


@pytest.mark.parametrize("starts", [False, True])
async def test_what_opens_nothing_fails_by_steps_that_cannot_be_kept(
    clock: ManualClock, starts: bool
) -> None:
    """No look-up of its start holds that up, and nobody is told of success."""

    async def handler(event: Event[Any], run: Run) -> None:
        await take_a_step(event, run)
        if starts:
            await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", made=False)
    ledger = Narrow(refuses=has_steps)
    async with opened(clock, builder=builder, ledger=ledger, ORDER=handler) as scene:
        told = await scene.send(ORDER)
        assert isinstance(told, PermanentError)
        assert (scene.run("ORDER").status, builder.looks) == ("failed", 0)


async def test_an_outcome_counts_though_its_steps_cannot_be_kept(clock: ManualClock) -> None:
    """The operation is over: its handler has returned."""
    handlers: dict[str, Any] = {
        "TENANT_PROVISIONING": stay,
        "TENANT_PROVISIONING_SUCCESS": take_a_step,
    }
    ledger = Narrow(refuses=has_steps)
    async with opened(clock, ledger=ledger, **handlers) as scene:
        assert await scene.send() is None
        assert isinstance(await scene.send(DONE), PermanentError)
        assert scene.run("TENANT_PROVISIONING_SUCCESS").status == "failed"
        assert (scene.operation.state, scene.operation.succeeded) == ("over", True)


@pytest.mark.parametrize("ends", ["fails", "hands back", "is done"])
async def test_what_has_no_room_at_all_is_a_bare_failure(clock: ManualClock, ends: str) -> None:
    """However the attempt ended: no reason, no note, nothing that follows; the tenant is free."""

    async def handler(event: Event[Any], run: Run) -> None:
        run.note("more than fits")
        if ends == "fails":
            raise PermanentError("no")
        if ends == "hands back":
            raise TemporaryError("not now")
        run.complete()

    ledger = Narrow(refuses=has_more_than_its_end)
    async with opened(clock, ledger=ledger, TENANT_PROVISIONING=handler) as scene:
        told = await scene.send()
        assert isinstance(told, PermanentError)
        assert str(told) == "too large"
        run = scene.run()
        assert run.error is not None
        assert (run.status, run.note, run.error.message) == ("failed", None, BARE)
        assert (scene.operation.state, len(scene.all(RunRecord))) == ("given_back", 1)
        assert await scene.is_free()


async def test_a_bare_failure_forgets_no_start(clock: ManualClock) -> None:
    """The operation can't be let go beside a start that may be out: the attempt is counted."""

    async def handler(event: Event[Any], run: Run) -> None:
        run.note("more than fits")
        await run.start_job("build", {})

    def refuses(records: Sequence[Record]) -> bool:
        ends = [one for one in records if isinstance(one, RunRecord) and one.ended_at]
        return any(one.note is not None for one in ends)

    async with opened(clock, ledger=Narrow(refuses=refuses), TENANT_PROVISIONING=handler) as scene:
        assert isinstance(await scene.send(), PermanentError)
        run = scene.run()
        assert (run.status, run.bugs, scene.operation.state) == ("retry", 1, "open")
        assert run.possible_until is not None
        assert run.error is not None
        assert run.error.type == "PermanentError"


# --- whoever lost the run ---------------------------------------------------------------------


@pytest.mark.parametrize("breaks", [False, True], ids=["fenced", "broke down"])
@pytest.mark.parametrize("answer", ["job", "lost"])
async def test_whoever_lost_the_run_leaves_its_job_to_the_operation(
    clock: ManualClock, breaks: bool, answer: str
) -> None:
    """The job that it started, or finds by a look-up, whether the settle was refused or raised."""

    async def handler(event: Event[Any], run: Run) -> None:
        scene.ledger.before_commit.append(lose)
        await run.start_job("build", {})

    async def lose() -> None:
        await scene.take_over()
        if breaks:
            raise RuntimeError("a bug of the ledger's")

    builder = Forgetful("CODE_BUILD")
    builder.error = TemporaryError("answer lost") if answer == "lost" else None
    async with opened(clock, builder=builder, TENANT_PROVISIONING=handler) as scene:
        told = await scene.send()
        assert isinstance(told, TemporaryError)
        assert "was taken over by another attempt" in str(told)
        assert (scene.operation.state, scene.operation.job) == ("open", scene.job)
        assert builder.looks == (1 if answer == "lost" else 0)
        assert scene.run().status == "running"


@pytest.mark.parametrize("starts", [False, True])
async def test_whoever_lost_the_run_is_told_so_whatever_a_look_up_says(
    clock: ManualClock, starts: bool
) -> None:
    """The builder can't be asked; and where no start can be out it isn't."""

    async def handler(event: Event[Any], run: Run) -> None:
        scene.ledger.before_commit.append(scene.take_over)
        if starts:
            await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", look_error=TemporaryError("down"))
    async with opened(clock, builder=builder, TENANT_PROVISIONING=handler) as scene:
        assert "was taken over by another attempt" in str(await scene.send())
        assert builder.looks == int(starts)
        assert scene.operation.job is None


async def test_a_start_that_is_answered_beside_the_settle_may_still_be_out(
    clock: ManualClock,
) -> None:
    """The operation was not to be let go because of it: then nor is it by the second try."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    starts = list[asyncio.Task[Job]]()

    class Deferred(Forgetful):
        async def start_job(
            self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
        ) -> Job:
            asked.set()
            await go_on.wait()
            raise PermanentError("refused")

    class Slow(DeskLedger):
        """Before it answers the settle's question, the start is answered."""

        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            found = await super().load(keys)
            if asked.is_set() and not starts[0].done():
                go_on.set()
                await asyncio.wait(starts)
                assert isinstance(starts[0].exception(), PermanentError)
            return found

    async def handler(event: Event[Any], run: Run) -> None:
        starts.append(asyncio.create_task(run.start_job("build", {})))
        run.complete()

    async with opened(
        clock, builder=Deferred("CODE_BUILD"), ledger=Slow(), TENANT_PROVISIONING=handler
    ) as scene:
        assert isinstance(await scene.send(), TemporaryError)
        assert scene.run().status == "retry"
        assert scene.run().possible_until == clock.now()
        assert scene.operation.state == "open"


# --- what an attempt amounts to ------------------------------------------------------------------


async def test_a_report_is_sent_with_the_settle_of_its_outcome(clock: ManualClock) -> None:
    """Of the operation that the event ended, without a sweep."""

    async def tell(event: Event[Any], run: Run) -> None:
        run.report(succeeded=True, url=URL)

    handlers: dict[str, Any] = {"TENANT_PROVISIONING": stay, "TENANT_PROVISIONING_SUCCESS": tell}
    async with opened(clock, **handlers) as scene:
        await scene.send()
        assert await scene.send(DONE) is None
        assert scene.webhook.told == [URL]
        assert scene.operation.report is not None
        assert scene.operation.report.was_accepted


@attrs.frozen(kw_only=True)
class Counted:
    tenantId: str  # noqa: N815 - the body's
    count: int = 0
    tenant: int = 0


@attrs.frozen(kw_only=True)
class Demanding:
    needed: int


async def test_an_outcome_of_our_own_counts_whatever_its_handlers_model(clock: ManualClock) -> None:
    """The run fails, and the operation is over all the same."""
    handlers: dict[str, Any] = {
        "TENANT_PROVISIONING": complete,
        "TENANT_PROVISIONING_SUCCESS": stay,
    }
    models = {"TENANT_PROVISIONING_SUCCESS": Demanding}
    async with opened(clock, models=models, **handlers) as scene:
        assert await scene.send() is None
        outcome = scene.run("TENANT_PROVISIONING_SUCCESS")
        assert (outcome.status, scene.operation.state) == ("failed", "over")


async def test_an_outcome_of_others_that_does_not_fit_ends_nothing(clock: ManualClock) -> None:
    """Its handler has not been called."""
    handlers: dict[str, Any] = {"TENANT_PROVISIONING": stay, "TENANT_PROVISIONING_SUCCESS": stay}
    models = {"TENANT_PROVISIONING_SUCCESS": Demanding}
    async with opened(clock, models=models, **handlers) as scene:
        await scene.send()
        assert isinstance(await scene.send(DONE), PermanentError)
        assert scene.run("TENANT_PROVISIONING_SUCCESS").status == "failed"
        assert scene.operation.state == "open"


async def test_what_follows_our_start_fits_by_what_it_has(clock: ManualClock) -> None:
    """Odd fields are left out; of a stranger's event they are a mismatch. The tenant stays."""
    seen = list[Counted]()

    async def see(event: Event[Counted], run: Run) -> None:
        seen.append(event.payload)

    async def clean(event: Event[Any], run: Run) -> None:
        run.clean_up({"count": "many"})

    async def fail(event: Event[Any], run: Run) -> None:
        run.fail("no room")

    handlers: dict[str, Any] = {
        "TENANT_PROVISIONING": fail,
        "TENANT_PROVISIONING_FAILURE": clean,
        "TENANT_CLEAN_UP": see,
        "ORDER": see,
    }
    models = {"TENANT_CLEAN_UP": Counted, "ORDER": Counted}
    async with opened(clock, models=models, **handlers) as scene:
        assert await scene.send() is None
        assert seen == [Counted(tenantId="t-1")]
        odd = {"tenant": {"id": "t-2"}, "count": "many"}
        told = await scene.send(envelope("ORDER", {"tenantId": "t-2", **odd}, event_id="o-1"))
        assert isinstance(told, PermanentError)
        known = {"ORCHESTRATOR_RUN_ID": "x-1"}
        assert await scene.send(envelope("ORDER", {**odd, **known}, event_id="o-2")) is None
        assert seen[1:] == [Counted(tenantId="t-2")]


async def test_an_outcome_that_names_nothing_of_ours_calls_no_handler(clock: ManualClock) -> None:
    """A start key that nobody knows, and no tenant: the run says so."""
    seen = list[Event[Any]]()

    async def see(event: Event[Any], run: Run) -> None:
        seen.append(event)

    stranger = envelope("TENANT_PROVISIONING_SUCCESS", {"ORCHESTRATOR_RUN_ID": f"{'0' * 32}-1"})
    async with opened(clock, TENANT_PROVISIONING_SUCCESS=see) as scene:
        assert await scene.send(stranger) is None
        assert seen == []
        assert "no job of this service" in (scene.run("TENANT_PROVISIONING_SUCCESS").note or "")


async def test_a_request_without_a_tenant_opens_nothing_that_could_end(clock: ManualClock) -> None:
    """A handler that ends it has a bug."""
    async with opened(clock, TENANT_PROVISIONING=complete) as scene:
        assert isinstance(await scene.send(envelope("TENANT_PROVISIONING", {})), HandlerFailed)
        run = scene.run()
        assert run.error is not None
        assert "opened no operation" in run.error.message


async def test_a_cancelled_request_calls_no_handler_again(clock: ManualClock) -> None:
    """The run is resumed for its end alone."""
    calls = list[int]()

    async def handler(event: Event[Any], run: Run) -> None:
        calls.append(run.attempt)
        raise TemporaryError("not now")

    async with opened(clock, TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        stopped = await scene.orchestrator.cancel("t-1", reason="not wanted")
        assert stopped.has_ended
        assert (calls, scene.run().status) == ([1], "failed")
        assert scene.run().was_cancelled
        assert await scene.is_free()


async def test_pauses_double_and_are_bounded(clock: ManualClock) -> None:
    """Of what is told to wait, of bugs, and of what names its own pause."""
    pause: float | None = None
    error: type[Exception] = TemporaryError

    async def handler(event: Event[Any], run: Run) -> None:
        raise TemporaryError("no", retry_after_s=pause) if error is TemporaryError else error("no")

    async def pause_s(event_type: str) -> float:
        (run,) = scene.all(RunRecord)
        assert (run.event_type, run.status) == (event_type, RunStatus.RETRY)
        return float((run.due_at - clock.now()).total_seconds())

    async with opened(clock, ORDER=handler) as scene:
        for expected in (5.0, 10.0, 20.0):
            await scene.send(ORDER)
            assert await pause_s("ORDER") == expected
        pause = 1e12
        await scene.send(ORDER)
        assert await pause_s("ORDER") == 30 * 86_400
        error = ValueError
        for expected in (5.0, 10.0):
            await scene.send(ORDER)
            assert await pause_s("ORDER") == expected
