"""A start: sent under the lease, or looked up where an earlier one may have made its job."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.errors import NotPermitted, PermanentError, TemporaryError
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.jobs.start import CUT_OFF_S, JobStarter
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.records import Job
from orchestrator.core.secrets.references import SecretReferences
from orchestrator.testing import ManualClock
from tests.desk import PROVISIONED, PROVISIONING, Desk, adopt_job, event, possible_until

#: What `possible_until` becomes: None, what it was, or the moment of the send.
NOTHING, AS_BEFORE, NOW = "nothing", "as before", "now"
#: CodeBuild's token and an allowance.
MEMORY_S = 360.0


@attrs.define
class BareBuilder:
    """Starts what it is asked for, or raises; it can't find anything again."""

    name: str = "FIRST"
    error: BaseException | None = None
    answer: Callable[[Job], Job | None] = attrs.field(default=lambda job: job)
    sent: list[str] = attrs.field(factory=list)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        self.sent.append(start_key)
        if self.error is not None:
            raise self.error
        return self.answer(self.job(job_identifier))

    def job(self, job_identifier: str = "standard") -> Job:
        return Job(id=f"{self.name}-job", builder=self.name, job_identifier=job_identifier)


@attrs.define
class ScriptedBuilder(BareBuilder):
    """Finds what the test says, one answer for each look; the last one stays."""

    finds: list[Job | Exception | None] = attrs.field(factory=lambda: [None])
    looks: list[tuple[str, str, datetime]] = attrs.field(factory=list)
    stopped: list[str] = attrs.field(factory=list)
    order: list[str] = attrs.field(factory=list)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        self.looks.append((start_key, job_identifier, started_after))
        self.order.append(self.name)
        found = self.finds.pop(0) if len(self.finds) > 1 else self.finds[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def stop_job(self, *, job_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.stopped.append(job_id)


@attrs.define
class LooksEverywhere(ScriptedBuilder):
    """Finds `finds_somewhere` where it is asked about no place."""

    finds_somewhere: Job | None = None
    looks_everywhere: list[tuple[str, datetime]] = attrs.field(factory=list)

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        self.looks_everywhere.append((start_key, started_after))
        return self.finds_somewhere


@attrs.define
class Scene:
    """An attempt at a provisioning, and builders in the order of their names."""

    desk: Desk
    attempt: RunLease
    builders: dict[str, Builder]

    @property
    def starter(self) -> JobStarter:
        return JobStarter(
            self.attempt, self.builders, self.desk.clock, self.desk.timings, SecretReferences()
        )

    async def start(self, builder: str = "FIRST") -> Job:
        return await self.starter.start(builder, "standard", {"A": "1"})


@pytest.fixture
def desk() -> Desk:
    return Desk()


def place(attempt: RunLease) -> tuple[str | None, str | None]:
    """Where a start that may be out was sent to."""
    start = attempt.possible_start
    assert start is not None
    return start.builder, start.job_identifier


def sent_to_first(attempt: RunLease) -> PossibleStart:
    until = possible_until(attempt)
    assert until is not None
    return PossibleStart(until, "FIRST")


async def fresh(desk: Desk, *builders: BareBuilder) -> Scene:
    """Nothing can be out."""
    attempt = await desk.claimed(PROVISIONING, "a")
    return Scene(desk, attempt, {one.name: one for one in builders})


async def possible(desk: Desk, *builders: BareBuilder, ago_s: float) -> Scene:
    """An earlier attempt handed back a start whose answer it did not get."""
    first = await desk.claimed(PROVISIONING, "a")
    sent = desk.clock.now()
    await desk.hand_back(first, possible_until=sent)
    desk.turn(ago_s)
    attempt = await desk.claimed(PROVISIONING, "a")
    assert possible_until(attempt) == sent
    return Scene(desk, attempt, {one.name: one for one in builders})


async def test_where_nothing_is_out_the_start_is_sent(desk: Desk) -> None:
    """Without a look."""
    builder = ScriptedBuilder()
    scene = await fresh(desk, builder)
    assert await scene.start() == builder.job()
    assert builder.sent == [scene.attempt.start_key]
    assert builder.looks == []
    assert possible_until(scene.attempt) is None


async def test_a_second_attempt_that_left_nothing_out_sends_too(desk: Desk) -> None:
    """The same start key."""
    builder = ScriptedBuilder()
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(first)
    scene = Scene(desk, await desk.claimed(PROVISIONING, "a"), {"FIRST": builder})
    await scene.start()
    assert (builder.sent, builder.looks) == ([first.start_key], [])


async def test_a_job_that_an_earlier_start_made_is_found(desk: Desk) -> None:
    """However long ago; nothing is sent."""
    builder = ScriptedBuilder()
    builder.finds = [builder.job()]
    scene = await possible(desk, builder, ago_s=3)
    assert await scene.start() == builder.job()
    assert builder.sent == []
    operation = await desk.operation(of=scene.attempt)
    began = operation.opened_at - timedelta(minutes=5)
    assert builder.looks == [(scene.attempt.start_key, "standard", began)]


async def test_every_builder_is_asked_the_chosen_one_first(desk: Desk) -> None:
    """By now the tier may name another one than it did; one that can't find is passed over."""
    order: list[str] = []
    builders = [ScriptedBuilder(name, order=order) for name in ("FIRST", "SECOND", "THIRD")]
    elsewhere = builders[2].job()
    builders[2].finds = [elsewhere]
    scene = await possible(desk, BareBuilder("BARE"), *builders, ago_s=3)
    assert await scene.start("SECOND") == elsewhere
    assert order == ["SECOND", "FIRST", "THIRD"]
    assert [builder.sent for builder in builders] == [[], [], []]
    order.clear()
    assert await scene.starter.look_up() == elsewhere
    assert order == ["FIRST", "SECOND", "THIRD"]


async def test_the_builder_that_a_start_was_sent_to_is_asked_alone(desk: Desk) -> None:
    """Where that is known: nobody else's outage holds the tenant up."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    first.error = TemporaryError("the answer was lost")
    scene = await fresh(desk, first, second)
    with pytest.raises(TemporaryError):
        await scene.start("FIRST")
    assert place(scene.attempt) == ("FIRST", "standard")
    await desk.hand_back(
        scene.attempt, possible_until=possible_until(scene.attempt), sent_to="FIRST"
    )
    desk.turn(90)
    second.finds = [TemporaryError("down for good")]
    first.error = None
    again = Scene(desk, await desk.claimed(PROVISIONING, "a"), scene.builders)
    assert await again.start("SECOND") == second.job()
    assert (len(first.looks), len(second.looks)) == (1, 0)


async def test_a_start_is_looked_for_where_it_was_sent(desk: Desk) -> None:
    """Whatever job the tier names by then, or if it names none; and nowhere else."""
    builder = LooksEverywhere(error=TemporaryError("the answer was lost"))
    scene = await fresh(desk, builder)
    with pytest.raises(TemporaryError):
        await scene.start()
    lost = scene.attempt
    assert place(lost) == ("FIRST", "standard")
    await desk.hand_back(lost, possible_start=lost.possible_start)
    desk.turn(90)
    attempt = await desk.claimed(PROVISIONING, "a")
    for look_up in (
        Scene(desk, attempt, scene.builders).starter.look_up("FIRST", "premium"),
        Scene(desk, attempt, scene.builders).starter.look_up(),
    ):
        attempt.possible_start = lost.possible_start
        assert await look_up is None
    assert [job_identifier for _, job_identifier, _ in builder.looks] == ["standard"] * 2
    assert builder.looks_everywhere == []


async def test_where_nobody_knows_the_place_a_start_is_looked_for_everywhere(desk: Desk) -> None:
    """Where it would be started now comes first; an item of an older release names no place."""
    builder = LooksEverywhere()
    builder.finds_somewhere = builder.job("elsewhere")
    scene = await possible(desk, builder, ago_s=3)
    scene.attempt.possible_start = sent_to_first(scene.attempt)
    assert await scene.start() == builder.job("elsewhere")
    (place,), key = builder.looks, scene.attempt.start_key
    assert place[1] == "standard"
    assert builder.looks_everywhere == [(key, place[2])]
    builder.finds = [builder.job()]
    assert await scene.starter.look_up("FIRST", "standard") == builder.job()
    assert len(builder.looks_everywhere) == 1


async def test_of_an_attempt_that_died_nobody_knows_where_it_has_sent_a_start(desk: Desk) -> None:
    """Whatever the attempt before it had said."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(
        first, possible_until=desk.clock.now(), sent_to="FIRST", sent_job="standard"
    )
    second = await desk.claimed(PROVISIONING, "a")
    assert place(second) == ("FIRST", "standard")
    third = await desk.taken_over(PROVISIONING, "a")
    assert place(third) == (None, None)


async def test_a_builder_that_lets_nobody_look_is_passed_over(desk: Desk) -> None:
    """It has most likely never let us start either; but the chosen one's word is needed."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    second.finds = [NotPermitted("not you")]
    scene = await possible(desk, first, second, ago_s=90)
    assert await scene.start("FIRST") == first.job()
    scene.attempt.possible_start = PossibleStart(desk.clock.now())
    for look_up in (scene.starter.look_up("SECOND", "standard"), scene.starter.look_up()):
        with pytest.raises(NotPermitted):
            await look_up


@pytest.mark.parametrize(("ago_s", "pause_s"), [(0, 62), (45, 17), (61.9, 1)])
async def test_none_is_no_proof_for_a_while(desk: Desk, ago_s: float, pause_s: float) -> None:
    """The attempt is told to come back when it will be; what was possible stays so."""
    builder = ScriptedBuilder()
    scene = await possible(desk, builder, ago_s=ago_s)
    before = possible_until(scene.attempt)
    with pytest.raises(TemporaryError, match="doesn't list yet") as refused:
        await scene.start()
    assert refused.value.retry_after_s == pytest.approx(pause_s)
    assert builder.sent == []
    assert possible_until(scene.attempt) == before


@pytest.mark.parametrize("builder", [ScriptedBuilder(), BareBuilder()])
async def test_a_certain_none_has_it_sent_again(desk: Desk, builder: BareBuilder) -> None:
    """With the same start key; a builder that can't find is waited for just as long."""
    scene = await possible(desk, builder, ago_s=62)
    assert await scene.start() == builder.job()
    assert builder.sent == [scene.attempt.start_key]
    assert scene.attempt.start_key.endswith("-1")
    assert possible_until(scene.attempt) is None


async def test_a_builder_that_cannot_find_proves_nothing_either(desk: Desk) -> None:
    """Until the time is over, it is not asked to start again."""
    builder = BareBuilder()
    scene = await possible(desk, builder, ago_s=59)
    with pytest.raises(TemporaryError):
        await scene.start()
    assert builder.sent == []


async def test_a_look_that_fails_is_no_proof(desk: Desk) -> None:
    """Of however many builders."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    second.finds = [TemporaryError("listing down")]
    scene = await possible(desk, first, second, ago_s=1000)
    before = possible_until(scene.attempt)
    with pytest.raises(TemporaryError, match="listing down"):
        await scene.start()
    assert (first.sent, possible_until(scene.attempt)) == ([], before)


async def test_a_taken_over_attempt_counts_from_its_leases_end(desk: Desk) -> None:
    """Until then it may have sent one."""
    builder = ScriptedBuilder()
    await desk.claimed(PROVISIONING, "a")
    scene = Scene(desk, await desk.taken_over(PROVISIONING, "a"), {"FIRST": builder})
    with pytest.raises(TemporaryError) as refused:
        await scene.start()
    assert refused.value.retry_after_s == pytest.approx(62 - 2)
    assert builder.sent == []


@attrs.define
class SlowToAnswer(ScriptedBuilder):
    """Its listing says what was there when it was asked, and says so late."""

    clock: ManualClock = attrs.field(factory=ManualClock)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        self.clock.turn(3)
        return None


async def test_none_is_as_old_as_the_question(desk: Desk) -> None:
    """A listing of the 59th second proves nothing, however late it arrives."""
    builder = SlowToAnswer(clock=desk.clock)
    scene = await possible(desk, builder, ago_s=60)
    with pytest.raises(TemporaryError, match="doesn't list yet"):
        await scene.start()
    assert builder.sent == []


# --- what a send may come to -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "raised", "is_out"),
    [
        (PermanentError("no such project"), PermanentError, False),
        (TemporaryError("throttled", nothing_done=True), TemporaryError, False),
        (TemporaryError("answer lost"), TemporaryError, True),
        (TimeoutError("its own"), TemporaryError, True),
        (ValueError("bug"), ValueError, True),
        (asyncio.CancelledError(), asyncio.CancelledError, True),
    ],
)
@pytest.mark.parametrize("ago_s", [None, 400])
async def test_an_answer_says_whether_a_start_may_be_out(
    desk: Desk, error: BaseException, raised: type[BaseException], is_out: bool, ago_s: float | None
) -> None:
    """A definite refusal adds nothing; whatever isn't one may have started a job just now."""
    builder = ScriptedBuilder(error=error)
    scene = await (fresh(desk, builder) if ago_s is None else possible(desk, builder, ago_s=ago_s))
    with pytest.raises(raised):
        await scene.start()
    assert builder.sent == [scene.attempt.start_key]
    assert possible_until(scene.attempt) == (desk.clock.now() if is_out else None)


@pytest.mark.parametrize(("left_s", "is_sent"), [(CUT_OFF_S, False), (CUT_OFF_S + 0.001, True)])
async def test_nothing_is_sent_once_the_lease_is_all_but_over(
    desk: Desk, left_s: float, is_sent: bool
) -> None:
    """Not even begun: there is no time to hear the answer."""
    builder = BareBuilder()
    scene = await fresh(desk, builder)
    desk.turn(60 - left_s)
    if is_sent:
        await scene.start()
    else:
        with pytest.raises(TemporaryError, match="nothing is started any more"):
            await scene.start()
    assert bool(builder.sent) is is_sent
    assert possible_until(scene.attempt) is None


async def test_a_renewed_lease_gives_time_again(desk: Desk) -> None:
    """The lease that counts is the latest."""
    builder = BareBuilder()
    scene = await fresh(desk, builder)
    desk.turn(59.5)
    await scene.attempt.renew()
    await scene.start()
    assert len(builder.sent) == 1


class DeafBuilder(BareBuilder):
    """Gets the call and never answers."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        self.sent.append(start_key)
        never: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        return await never


async def test_a_send_is_cut_off_before_the_lease_ends(desk: Desk) -> None:
    """It is sent, and given up while nobody can have taken the run over: it may be out."""
    builder = DeafBuilder()
    scene = await fresh(desk, builder)
    desk.turn(60 - CUT_OFF_S - 1e-6)
    with pytest.raises(TemporaryError, match="FIRST did not answer before the lease was over"):
        await scene.start()
    assert len(builder.sent) == 1
    assert possible_until(scene.attempt) == desk.clock.now()


# --- what is checked before it is sent -------------------------------------------------------


@attrs.define
class BuildsFirst(ScriptedBuilder):
    """It can tell what a start would be; `refusal` is why there can be none."""

    refusal: Exception | None = None
    built: list[tuple[str, Mapping[str, Any], str]] = attrs.field(factory=list)

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        self.built.append((job_identifier, params, start_key))
        if self.refusal is not None:
            raise self.refusal
        return params


async def test_a_request_is_built_before_it_is_sent(desk: Desk) -> None:
    """With all that it will be sent with."""
    builder = BuildsFirst()
    scene = await fresh(desk, builder)
    await scene.start()
    key = scene.attempt.start_key
    assert builder.built == [("standard", {"A": "1"}, key)]
    assert builder.sent == [key]


@pytest.mark.parametrize("error", [PermanentError("no such machine"), KeyError("a bug")])
@pytest.mark.parametrize("ago_s", [None, 63])
async def test_what_cannot_be_built_leaves_nothing_to_look_up(
    desk: Desk, error: Exception, ago_s: float | None
) -> None:
    """It was never sent; nor does it prove that an earlier start is out, as a refusal would."""
    builder = BuildsFirst(refusal=error)
    scene = await (fresh(desk, builder) if ago_s is None else possible(desk, builder, ago_s=ago_s))
    with pytest.raises(type(error)):
        await scene.start()
    assert (builder.sent, possible_until(scene.attempt)) == ([], None)
    assert len(builder.looks) == (0 if ago_s is None else 1)


async def test_a_job_that_is_out_is_found_whatever_could_be_built_now(desk: Desk) -> None:
    """The tier may have been broken since."""
    builder = BuildsFirst(refusal=PermanentError("no such machine"))
    builder.finds = [builder.job()]
    scene = await possible(desk, builder, ago_s=3)
    assert await scene.start() == builder.job()


async def test_a_variable_that_cannot_be_printed_is_not_sent(desk: Desk) -> None:
    """By whatever handler, to whatever builder; dates are text by then."""
    builder = BareBuilder()
    scene = await fresh(desk, builder)
    with pytest.raises(PermanentError, match="The variable KEY can't be passed to a job") as error:
        await scene.starter.start("FIRST", "standard", {"KEY": {"pem": b"x"}})
    assert [one.path for one in error.value.errors] == ["$"]
    assert (builder.sent, possible_until(scene.attempt)) == ([], None)


# --- refused under our own key ---------------------------------------------------------------


@pytest.mark.parametrize(("ago_s", "is_final"), [(MEMORY_S - 1, False), (MEMORY_S, True)])
async def test_a_refusal_after_a_possible_start_may_be_its_echo(
    desk: Desk, ago_s: float, is_final: bool
) -> None:
    """As long as the builder remembers the token: looked for again, and never final."""
    builder = ScriptedBuilder(error=PermanentError("mismatch"))
    scene = await possible(desk, builder, ago_s=ago_s)
    before = possible_until(scene.attempt)
    with pytest.raises(PermanentError if is_final else TemporaryError, match="mismatch"):
        await scene.start()
    assert len(builder.looks) == (1 if is_final else 2)
    assert possible_until(scene.attempt) == (None if is_final else before)


async def test_a_refusal_leads_to_the_job_that_it_proves(desk: Desk) -> None:
    """The listing was late; now it is there."""
    builder = ScriptedBuilder(error=PermanentError("mismatch"))
    builder.finds = [None, builder.job()]
    scene = await possible(desk, builder, ago_s=63)
    assert await scene.start() == builder.job()


async def test_a_refusal_asks_no_builder_that_the_start_was_not_sent_to(desk: Desk) -> None:
    """One that is down holds up nobody else's start."""
    first, second = ScriptedBuilder("FIRST", PermanentError("mismatch")), ScriptedBuilder("SECOND")
    second.finds = [TemporaryError("down")]
    scene = await possible(desk, first, second, ago_s=63)
    scene.attempt.possible_start = sent_to_first(scene.attempt)
    with pytest.raises(TemporaryError, match="mismatch"):
        await scene.start()
    assert (place(scene.attempt)[0], second.looks) == ("FIRST", [])


async def test_a_refusal_of_a_first_start_is_final(desk: Desk) -> None:
    """Nothing was out before it."""
    builder = ScriptedBuilder(error=PermanentError("no such project"))
    scene = await fresh(desk, builder)
    with pytest.raises(PermanentError, match="no such project"):
        await scene.start()
    assert builder.looks == []


async def test_nothing_is_started_for_an_operation_that_is_over(desk: Desk) -> None:
    """It ended without this attempt, which still has the event in hand."""
    builder = ScriptedBuilder()
    builder.finds = [builder.job()]
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(first)
    attempt = await desk.claimed(PROVISIONING, "a")
    await adopt_job(
        desk.transactions, operation_id=attempt.run.operation_id, number=1, job=builder.job()
    )
    await desk.end(PROVISIONED, "done")
    with pytest.raises(PermanentError, match="is over: replay with force"):
        await Scene(desk, attempt, {"FIRST": builder}).start()
    assert (builder.sent, builder.looks) == ([], [])


# --- odd builders ----------------------------------------------------------------------------


async def test_a_job_without_an_id_is_known_by_its_start_key(desk: Desk) -> None:
    """A builder may have nothing to show."""
    builder = BareBuilder(answer=lambda job: None)
    scene = await fresh(desk, builder)
    key = scene.attempt.start_key
    assert await scene.start() == Job(id=key, builder="FIRST", job_identifier="standard")


async def test_a_run_without_an_operation_looks_from_its_first_sight(desk: Desk) -> None:
    """An event that opens none has no operation before its job is recorded."""
    builder = ScriptedBuilder()
    first = await desk.claimed("ORDER", "a")
    await desk.hand_back(first, possible_until=desk.clock.now())
    desk.turn(62)
    attempt = await desk.claimed("ORDER", "a")
    await Scene(desk, attempt, {"FIRST": builder}).start()
    began = first.run.first_seen - timedelta(minutes=5)
    assert builder.looks == [(attempt.start_key, "standard", began)]
    assert attempt.run.run_id == event("ORDER", "a").key


# --- stopping --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "stopped", "said"),
    [
        (ScriptedBuilder(), ["FIRST-job"], ("warning", "stopped an orphaned job")),
        (
            ScriptedBuilder(error=TemporaryError("down")),
            [],
            ("error", "an orphaned job was not stopped"),
        ),
        (BareBuilder(), None, ("error", "an orphaned job runs, and its builder can't stop it")),
        (
            ScriptedBuilder("SECOND"),
            [],
            ("error", "an orphaned job runs, and its builder can't stop it"),
        ),
    ],
)
async def test_a_job_that_nobody_can_have_is_stopped(
    desk: Desk, builder: BareBuilder, stopped: list[str] | None, said: tuple[str, str]
) -> None:
    """Whatever comes of it is said, and nothing is raised."""
    scene = await fresh(desk, builder)
    with capture_logs() as logs:
        await scene.starter.stop(BareBuilder().job())
    assert getattr(builder, "stopped", None) == stopped
    (entry,) = logs
    assert (entry["log_level"], entry["event"], entry["job_id"]) == (*said, "FIRST-job")


@attrs.define
class Rebuilding(ScriptedBuilder):
    """It has built the job A again, as B, which is the newest of the start."""

    newest: str = "B"
    trouble: Exception | None = None

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        if self.trouble is not None:
            raise self.trouble
        newest = attrs.evolve(self.job(), id=self.newest)
        report = JobDescription(job=newest, status=JobStatus.IN_PROGRESS, replaces="A")
        return {"A": report} if self.newest != "A" else {}


@pytest.mark.parametrize(
    ("builder", "found", "stopped"),
    [
        (Rebuilding(), "B", False),
        (Rebuilding(), "C", True),
        (Rebuilding(newest="A"), "B", True),
        (Rebuilding(trouble=TemporaryError("down")), "B", True),
        (ScriptedBuilder(), "B", True),
    ],
)
async def test_a_newer_build_of_the_operations_job_is_no_orphan(
    desk: Desk, builder: ScriptedBuilder, found: str, stopped: bool
) -> None:
    """Whoever lost the run looks up what it may have sent, and finds the rebuild of what its
    successor has recorded: the next look has that take its place."""
    scene = await fresh(desk, builder)
    recorded = attrs.evolve(builder.job(), id="A")
    await desk.finish(scene.attempt, recorded)
    with capture_logs():
        await scene.starter.stop(attrs.evolve(builder.job(), id=found))
    assert builder.stopped == ([found] if stopped else [])


async def test_a_newer_build_is_an_orphan_once_the_end_is_claimed(desk: Desk) -> None:
    """Nobody looks any more."""
    builder = Rebuilding()
    scene = await fresh(desk, builder)
    await desk.finish(scene.attempt, attrs.evolve(builder.job(), id="A"))
    await desk.claimed(PROVISIONED, "b")
    with capture_logs():
        await scene.starter.stop(attrs.evolve(builder.job(), id="B"))
    assert builder.stopped == ["B"]
