"""The watcher: builders of every ability, and what becomes of jobs that they can't describe."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.dispatch.correlate import correlate
from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.job_description import (
    JobDescription,
    JobStatus,
    NotDescribed,
)
from orchestrator.core.jobs.state_changes import act_on
from orchestrator.core.jobs.watch import JobWatcher
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.ledger import UnreadableItems
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import Record
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.testing import InMemoryBuilder, StartedJob
from tests.desk import PROVISIONING, Desk, DeskLedger, operation_id
from tests.ledgers import find_operation, share_items
from tests.unit.core.jobs.watching import (
    Bench,
    Broken,
    Concluded,
    Down,
    OnlyStarts,
    OnlyTells,
    Partial,
    Picky,
    PickyAndBlind,
    running,
    watched,
)


def code_build_job(job_id: str) -> Job:
    """The job that a build's self-report names."""
    job = BUILT_IN_NOTIFICATIONS.read_self_report({"CODEBUILD_BUILD_ID": job_id})
    assert job is not None
    return job


async def test_a_job_of_an_unreachable_builder_ends_at_the_deadline(desk: Desk) -> None:
    """Until then it may be running; then the operation fails, and the job can't even be stopped."""
    (operation,) = await watched(desk, "b-1")
    bench = Bench(desk, {"IN_MEMORY": OnlyStarts()})
    await bench.check_due(operation.operation_id)
    assert bench.concluded == []
    desk.turn(7200)
    await bench.check_due(operation.operation_id)
    assert bench.reasons == ["The job b-1 took longer than 7200 s."]
    assert bench.concluded[0].body["endedJob"]["status"] == "UNKNOWN"


async def test_a_builder_that_is_no_more_has_its_deadline_too(desk: Desk) -> None:
    """A job of a builder that was removed from the settings ends at its deadline."""
    (operation,) = await watched(desk, "b-1", builder="GONE")
    bench = Bench(desk, {})
    desk.turn(7200)
    await bench.check_due(operation.operation_id)
    assert bench.reasons == ["The job b-1 took longer than 7200 s."]


@pytest.mark.parametrize("stops_overdue", [True, False])
async def test_a_job_beyond_its_deadline_is_stopped_where_it_may_be(
    desk: Desk, stops_overdue: bool
) -> None:
    """Else the builder is queried again: the tenant isn't released while it runs."""
    builder = await asyncio.to_thread(running, InMemoryBuilder(), "b-1")
    (operation,) = await watched(desk, "b-1")
    bench = Bench(desk, {"IN_MEMORY": builder}, stops_overdue=stops_overdue)
    desk.turn(7199)
    await bench.check_due(operation.operation_id)
    assert bench.concluded == []
    desk.turn(60)
    await bench.check_due(operation.operation_id)
    stopped = ["The job b-1 took longer than 7200 s. The job b-1 was stopped."]
    assert bench.reasons == (stopped if stops_overdue else [])


async def test_a_job_that_cannot_be_stopped_holds_its_tenant(desk: Desk) -> None:
    """Its builder says that it runs; how it ends is what counts."""
    builder = await asyncio.to_thread(running, OnlyTells(), "b-1")
    (operation,) = await watched(desk, "b-1")
    bench = Bench(desk, {"IN_MEMORY": builder})
    desk.turn(7200)
    await bench.check_due(operation.operation_id)
    assert bench.concluded == []
    builder.finish("b-1", JobStatus.FAILED, message="at last")
    desk.turn(60)
    await bench.check_due(operation.operation_id)
    assert bench.reasons == ["The job b-1 took longer than 7200 s. The job b-1 failed: at last."]


async def test_one_job_that_is_refused_hides_no_other(desk: Desk) -> None:
    """The rest of the batch is described without it."""
    jobs = ["b-1", "b-2", "bad", "b-3"]
    builder = await asyncio.to_thread(running, Picky(), *jobs)
    for job_id in jobs:
        builder.finish(job_id)
    operations = await watched(desk, *jobs)
    bench = Bench(desk, {"IN_MEMORY": builder})
    await bench.check_due(*(one.operation_id for one in operations))
    ended = sorted(event.body["endedJob"]["id"] for event in bench.concluded)
    assert ended == ["b-1", "b-2", "b-3"]


async def test_a_refused_job_in_a_batch_with_an_unreadable_one_releases_no_tenant(
    desk: Desk,
) -> None:
    """Its job may run, and so may that of another half of the batch."""
    names = ["b-1", "bad", "failed", "b-2", "hidden", "b-3", "over"]
    builder = await asyncio.to_thread(running, PickyAndBlind(), "b-1", "b-2", "b-3", "over")
    builder.finish("over")
    operations = await watched(desk, *names, job_since=desk.clock.now())
    bench = Bench(desk, {"IN_MEMORY": builder}, stops_overdue=False)
    desk.turn(62)
    assert await bench.check_due(*(one.operation_id for one in operations)) is not None
    ended = sorted(event.body["endedJob"]["id"] for event in bench.concluded)
    assert ended == ["over"]
    desk.turn(desk.timings.deadline_s)
    await bench.check_due(*(one.operation_id for one in operations))
    ended = sorted(event.body["endedJob"]["id"] for event in bench.concluded)
    assert ended == ["bad", "hidden", "over", "over"]


@pytest.mark.parametrize("failing", [Broken("BAD"), Down("BAD")])
async def test_one_builder_that_fails_hides_no_other(desk: Desk, failing: InMemoryBuilder) -> None:
    """The others are described; then the caller of the check gets the error."""
    builder = await asyncio.to_thread(running, InMemoryBuilder(), "b-1")
    builder.finish("b-1")
    (good,) = await watched(desk, "b-1")
    bad = attrs.evolve(
        good, operation_id=operation_id("bad"), job=desk.job("bad", builder="BAD"), version=0
    )
    await desk.ledger.put(bad)
    bench = Bench(desk, {"BAD": failing, "IN_MEMORY": builder})
    assert await bench.check_due(bad.operation_id, good.operation_id) is not None
    assert [event.body["endedJob"]["id"] for event in bench.concluded] == ["b-1"]


async def test_jobs_that_can_not_be_described_hide_no_other(desk: Desk) -> None:
    """A failed description is queried again; a hidden or unknown job ends at its deadline."""
    builder = Partial()
    names = ("failed", "hidden", "gone", "over")
    operations = await watched(desk, *names, job_since=desk.clock.now())
    builder.failed, builder.hidden = {"failed"}, {"hidden"}
    over = operations[-1].job
    assert over is not None
    builder.known = {"over": JobDescription(job=over, status=JobStatus.SUCCEEDED)}
    bench = Bench(desk, {"IN_MEMORY": builder})
    ended: list[list[str]] = []
    for _ in range(3):
        desk.turn(62)
        bench.concluded.clear()
        assert "some" in str(await bench.check_due(*map(operation_id, names)))
        ended.append(sorted(one.body["endedJob"]["id"] for one in bench.concluded))
        desk.turn(desk.timings.deadline_s)
    assert ended == [["over"], ["gone", "hidden", "over"], ["gone", "hidden", "over"]]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_dry_run_and_real_jobs_leave_each_other_alone(desk: Desk, dry_run: bool) -> None:
    """The setting was changed over a ledger in use: neither is the other's to end."""
    real, dry = await watched(desk, "real", "dry", job_since=desk.clock.now())
    assert dry.job is not None
    await desk.ledger.put(attrs.evolve(dry, job=attrs.evolve(dry.job, request={"job": "up"})))
    bench = Bench(desk, {"IN_MEMORY": InMemoryBuilder()}, dry_run=dry_run)
    desk.turn(desk.timings.deadline_s)
    await bench.check_due(real.operation_id, dry.operation_id)
    (concluded,) = bench.concluded
    assert concluded.body["endedJob"]["id"] == ("dry" if dry_run else "real")


async def test_a_job_with_a_start_key_on_a_foreign_builder_is_ignored(desk: Desk) -> None:
    """It is neither adopted nor stopped."""

    class Owner(InMemoryBuilder):
        def owns(self, job_id: str) -> bool:
            return job_id != "child"

    builder = Owner()
    attempt = await desk.claimed(PROVISIONING, "a")
    watcher = Bench(desk, {"IN_MEMORY": builder}).watcher
    for job_id, expected in (("child", None), ("parent", "parent")):
        builder.started = [StartedJob(desk.job(job_id), {}, attempt.start_key)]
        report = JobDescription(
            job=desk.job(job_id), status=JobStatus.IN_PROGRESS, start_key=attempt.start_key
        )
        await act_on(watcher, BUILT_IN_NOTIFICATIONS, report, "anything")
        job = (await desk.operation(of=attempt)).job
        assert (job.id if job else None) == expected
    assert builder._ended == {}


async def test_a_job_that_is_not_due_is_not_checked(desk: Desk) -> None:
    """Its operation may have ended by now, or expired."""
    (operation,) = await watched(desk, "b-1")
    over = attrs.evolve(operation, operation_id="over", state=OperationState.OVER, version=0)
    await desk.ledger.put(over)
    bench = Bench(desk, {"IN_MEMORY": OnlyStarts()})
    desk.ledger.requests.clear()
    assert await bench.check_due("over", "none") is None
    assert desk.ledger.requests == ["load", "load"]


async def test_a_self_report_of_a_job_that_cannot_be_described_counts_by_its_start_key(
    desk: Desk,
) -> None:
    """The builder of CodeBuild's name is the user's own, and describes nothing."""
    await desk.claimed(PROVISIONING, "a", key="k")
    bench = Bench(desk, {"CODE_BUILD": OnlyStarts()})
    assert await bench.adopter.identify(code_build_job("b:1"), "odd") is None
    operation = await bench.adopter.identify(code_build_job("b:1"), f"{operation_id('k')}-1")
    assert operation is not None
    assert operation.job == Job(id="b:1", builder="CODE_BUILD", job_identifier="b")


async def test_a_self_report_of_a_job_that_its_builder_does_not_know_is_ignored(desk: Desk) -> None:
    """Whatever the report claims: any sender may send its key. As long as the start that it names
    waits for a job, the builder may not list that yet: the report is redelivered."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    bench = Bench(desk, {"CODE_BUILD": Picky("CODE_BUILD")})
    for job_id in ("bad", "unknown"):
        for key in (None, "odd", operation_id("other"), f"{operation_id('k')}-2"):
            assert await bench.adopter.identify(code_build_job(job_id), key) is None
        with pytest.raises(TemporaryError, match=f"doesn't show the job {job_id} yet"):
            await bench.adopter.identify(code_build_job(job_id), f"{operation_id('k')}-1")
    assert (await desk.operation("k")).job is None
    await desk.finish(attempt, desk.job("b-1"))
    assert await bench.adopter.identify(code_build_job("unknown"), f"{operation_id('k')}-1") is None


async def test_a_look_that_breaks_down_is_its_own(desk: Desk) -> None:
    """The others are checked; it is counted, says why, and is checked again later."""
    operations = await watched(desk, "b-1", "b-2", "b-3")
    bench = Bench(desk, {"IN_MEMORY": OnlyTells()})
    for one in operations:
        await desk.ledger.put(attrs.evolve(one, stop_reason="Stop."))

    async def handle_outcome(event: Concluded) -> None:
        if event.body["endedJob"]["id"] == "b-2":
            raise UnicodeError("hunter2")
        bench.concluded.append(event)

    watcher = JobWatcher.over(
        desk.transactions,
        {"IN_MEMORY": OnlyStarts()},
        stops_overdue=True,
        handle_outcome=handle_outcome,
    )
    assert await watcher.check_due([one.operation_id for one in operations]) is None
    assert len(bench.concluded) == 2
    odd = await find_operation(desk.ledger, operations[1].operation_id)
    assert odd is not None
    assert (odd.bugs, odd.due_at) == (1, desk.later(60))
    assert odd.trouble == "It failed with UnicodeError; the log has the cause."


class Fails(DeskLedger):
    """Loading the item of the key raises the error."""

    def __init__(self, desk: Desk, key: str, error: Exception) -> None:
        super().__init__()
        share_items(self, desk.ledger)
        self.key, self.error = key, error

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        if self.key in keys:
            raise self.error
        return await super().load(keys)


@pytest.mark.parametrize(
    ("error", "is_raised"),
    [
        (TemporaryError("no ledger"), True),
        (UnreadableItems({"OP#b-1": "newer"}, found={}), False),
        (RuntimeError("a bug"), False),
    ],
)
async def test_a_check_that_cannot_begin_delays_no_other(
    desk: Desk, error: Exception, is_raised: bool
) -> None:
    """The other jobs are checked; only an outage of the ledger is raised."""
    builder = await asyncio.to_thread(running, InMemoryBuilder(), "b-1", "b-2")
    builder.finish("b-2")
    first, second = await watched(desk, "b-1", "b-2")
    desk.ledger = Fails(desk, first.key, error)
    bench = Bench(desk, {"IN_MEMORY": builder})
    trouble = await bench.check_due(first.operation_id, second.operation_id)
    assert trouble is (error if is_raised else None)
    assert [event.body["endedJob"]["id"] for event in bench.concluded] == ["b-2"]


async def test_a_job_that_was_built_again_is_replaced_by_the_newest(desk: Desk) -> None:
    """Its builder answers with that one, whether the older one is known still or not."""
    (operation,) = await watched(desk, "b-1")
    newest = JobDescription(job=desk.job("b-2"), status=JobStatus.IN_PROGRESS, replaces="b-1")
    builder = Partial()
    builder.known, builder.failed, builder.hidden = {"b-1": newest}, (), ()
    bench = Bench(desk, {"IN_MEMORY": builder})
    await bench.check_due(operation.operation_id)
    present = await find_operation(desk.ledger, operation.operation_id)
    assert present is not None
    assert (present.job, present.rebuilds, bench.concluded) == (desk.job("b-2"), 1, [])


UNKNOWN = "job unknown to its builder: waiting for its deadline"


@pytest.mark.parametrize(
    ("builder", "passed_s", "expected"),
    [
        (InMemoryBuilder(), 61, []),
        (InMemoryBuilder(), 62, [UNKNOWN]),
        (OnlyStarts(), 7199, []),
        (Down(), 7200, []),
        ("runs", 7199, []),
        ("runs", 7200, ["job overdue"]),
    ],
    ids=["not listed yet", "unknown", "not asked", "down", "runs", "overdue"],
)
async def test_a_job_that_does_not_end_is_logged(
    desk: Desk, builder: Builder | str, passed_s: float, expected: list[str]
) -> None:
    """It is logged once its builder should list it or it is overdue, not if nothing is known."""
    if isinstance(builder, str):
        builder = await asyncio.to_thread(running, InMemoryBuilder(), "b-1")
    (operation,) = await watched(desk, "b-1")
    bench = Bench(desk, {"IN_MEMORY": builder}, stops_overdue=False)
    desk.turn(passed_s)
    with capture_logs() as logs:
        await bench.check_due(operation.operation_id)
    assert [
        entry["event"] for entry in logs if entry["event"] in (UNKNOWN, "job overdue")
    ] == expected
    assert bench.concluded == []


async def test_after_many_breakdowns_a_job_ends_without_its_own_words(desk: Desk) -> None:
    """The job's self-report may be what breaks each check."""
    (operation,) = await watched(desk, "b-1", told_by="RUN", bugs=desk.timings.max_attempts)
    bench = Bench(desk, {"IN_MEMORY": OnlyStarts()})
    desk.ledger.requests.clear()
    await bench.end(operation, NotDescribed.NOT_ASKED, "It ended.")
    assert (bench.reasons, desk.ledger.requests) == (["It ended."], [])


async def test_an_end_is_recorded_without_a_self_report_that_is_too_large(desk: Desk) -> None:
    """Values of the job's report that the ledger can't store are left out."""
    (operation,) = await watched(desk, "b-1")
    bench = Bench(desk, {"IN_MEMORY": OnlyStarts()})
    outcomes = bench.watcher.outcomes
    tried: list[Concluded] = []

    async def handle_outcome(event: Concluded) -> None:
        tried.append(event)
        if len(tried) == 1:
            raise EventTooLarge(500_000, 390_000)

    await attrs.evolve(outcomes, handle_outcome=handle_outcome).end(
        operation, NotDescribed.NOT_ASKED, "y" * 5000
    )
    assert len(tried) == 2
    assert len(tried[1].body["reason"]) == 2001


async def test_an_end_of_a_job_that_was_built_again_meanwhile_ends_nothing(desk: Desk) -> None:
    """One process saw that the older job was over, before the newer one took its place: only
    the end of the newer one is the operation's, and it is another event.

    first  ─ asks: A is over ················ claim: the end of A ✗ while B runs
    second ─────────────── asks: A is over, B is newer ─ replace ─────── asks: B is over
    """
    await desk.finish(await desk.claimed(PROVISIONING, "a", key="k"), desk.job("a"))
    operation = await desk.operation("k")
    bench = Bench(desk, {"IN_MEMORY": InMemoryBuilder()})
    newest = JobDescription(job=desk.job("b"), status=JobStatus.FAILED, replaces="a")
    await bench.end(operation, JobDescription(job=desk.job("a"), status=JobStatus.FAILED))
    await bench.adopter.adopt(newest, operation, 1)
    present = await desk.operation("k")
    assert present.job == desk.job("b")
    await bench.end(present, attrs.evolve(newest, replaces=None))
    ended = []
    for outcome in bench.concluded:
        request = await correlate(
            outcome,
            Trigger.DELIVERY,
            None,
            watcher=bench.watcher,
            notifications=BUILT_IN_NOTIFICATIONS,
            secrets=Redactor(),
        )
        claim = await claim_run(desk.transactions, request)
        ended.append(isinstance(claim, RunLease))
        assert (await desk.operation("k")).outcome == (outcome.key if ended[-1] else None)
    assert ended == [False, True]


@pytest.mark.parametrize("is_over", [True, False])
async def test_a_rebuild_that_reports_itself_replaces_the_recorded_job(
    desk: Desk, is_over: bool
) -> None:
    """Its operation has the older build, of which it was built. A build that its builder doesn't
    call the newest is stopped."""

    class Rebuilds(InMemoryBuilder):
        async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
            newest = JobDescription(job=desk.job("b"), status=JobStatus.IN_PROGRESS, replaces="a")
            return {"a": newest} if "a" in job_ids else {}

    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(attempt, desk.job("a"))
    builder = Rebuilds()
    builder.started = [StartedJob(desk.job(one), {}, attempt.start_key) for one in ("b", "c")]
    watcher = Bench(desk, {"IN_MEMORY": builder}).watcher
    operation = await desk.operation("k")
    status = JobStatus.SUCCEEDED if is_over else JobStatus.IN_PROGRESS
    for job_id, is_adopted in (("c", False), ("b", True)):
        report = JobDescription(job=desk.job(job_id), status=status)
        adopted = await watcher.adopter.adopt(report, operation, 1)
        assert (adopted is not None) is is_adopted
    assert (await desk.operation("k")).job == desk.job("b")
    assert set(builder._ended) == (set() if is_over else {"c"})
