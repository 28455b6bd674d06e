"""The contract of builders as a test suite, to be run against a builder of your own.

    class TestShellBuilder(BuilderContract):
        @pytest.fixture
        async def builder_bench(self, tmp_path):
            yield ShellBench(ShellBuilder(tmp_path))

`ShellBench` is your subclass of `BuilderBench`: what the suite must see and do behind the builder.
What a builder may leave out, such as a lookup, is skipped if it has none. Each start is made for a
tenant of a service in memory as well, whose answers get lost and whose process crashes.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs
import pytest

from orchestrator.adapters.codebuild.builds import CODE_BUILD
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import OrchestratorError, PermanentError, TemporaryError
from orchestrator.core.handlers.extension import Extension
from orchestrator.core.jobs.builder import (
    Builder,
    Configurable,
    DescribesJobs,
    FindsJobs,
    FindsJobsAnywhere,
    OwnsJobs,
    StopsHarder,
    StopsJobs,
    TellsStarts,
)
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import OperationRecord, Record
from orchestrator.parts import Parts, open_parts
from orchestrator.settings import Builders, LedgerSettings, Operations, Settings, Tiers
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.sample_events import envelope

__all__ = ["BuilderBench", "BuilderContract"]

#: Before every job, whatever clock its builder has.
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_LONG_KEY = "k" * 64
_MANY = 101

_TENANT = "tenant-1"
_EVENT = envelope(
    "TENANT_PROVISIONING", {"tenantId": _TENANT, "tier": "TIER"}, time=_LONG_AGO.isoformat()
)
_MINUTES = 20

_Ability = TypeVar("_Ability")


class BuilderBench(ABC):
    """A builder, and access to where its jobs run: the jobs it has started, and ways to end them.

    `job_identifiers` are two that it can start; `ends` are the ends that its jobs can have.
    `options` are valid ones for a builder that can be `configured`.
    """

    name: str = "MINE"
    job_identifiers: tuple[str, str] = ("basic-tenant", "standard-tenant")
    ends: Collection[JobStatus] = frozenset(JobStatus) - {JobStatus.IN_PROGRESS}
    options: Mapping[str, Any] = {}

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    @abstractmethod
    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        """The jobs that exist, however they came about: job id to its job identifier and the names
        of its variables. Read it where the jobs run, and not from the builder's own memory."""

    async def finish(self, job_id: str, status: JobStatus, message: str) -> None:
        """End a job with this status, and `message` as the cause; for a builder that describes its
        jobs."""
        raise NotImplementedError(f"{type(self).__name__} needs a finish: its builder describes.")

    async def forget(self, job_id: str) -> None:
        """Make a job unknown, as if it had been deleted; for a builder that describes its jobs."""
        raise NotImplementedError(f"{type(self).__name__} needs a forget: its builder describes.")


class BuilderContract:
    """The suite: subclass it as `Test…`, with a fixture `builder_bench` (a `BuilderBench`)."""

    pytestmark = pytest.mark.asyncio

    async def test_a_job_is_started_with_its_variables(self, builder_bench: BuilderBench) -> None:
        """The returned job has an id and the start's job identifier, and the job runs with the
        variables of the start."""
        identifier = builder_bench.job_identifiers[1]
        job = await _start(builder_bench, "key-1", identifier, A="1", B={"c": [True]})
        assert job.id, f"start_job returned a job without an id: {job}"
        assert job.builder in ("", builder_bench.name), f"The job names another builder: {job}"
        assert job.job_identifier == identifier, f"{job} was started as {identifier}."
        started = {one: (what, set(names)) for one, (what, names) in await _all(builder_bench)}
        expected = {job.id: (identifier, {"A", "B"})}
        assert started == expected, f"There is {started} instead of {expected}."

    async def test_a_job_may_have_no_variables(self, builder_bench: BuilderBench) -> None:
        """An empty map of variables is a start like any other."""
        job = await _start(builder_bench, "key-1")
        started = {one: (what, set(names)) for one, (what, names) in await _all(builder_bench)}
        expected = {job.id: (builder_bench.job_identifiers[0], set[str]())}
        assert started == expected, f"There is {started} instead of {expected}."

    async def test_the_same_start_key_never_starts_twice(self, builder_bench: BuilderBench) -> None:
        """A repeated start is answered with the job of the first."""
        first = await _start(builder_bench, "key-1", A="1", B="2")
        second = await _start(builder_bench, "key-1", B="2", A="1")
        assert second == first, f"A second start with the same key returned {second}, not {first}."
        await _expect_one(builder_bench, first)

    async def test_parallel_starts_with_one_key_are_one_job(
        self, builder_bench: BuilderBench
    ) -> None:
        """Concurrent starts with the same key, as of two processes, return the same job."""
        jobs = await asyncio.gather(*(_start(builder_bench, "key-1", A="1") for _ in range(4)))
        assert len({job.id for job in jobs}) == 1, f"Parallel starts with one key returned {jobs}."
        await _expect_one(builder_bench, jobs[0])

    async def test_another_start_key_is_another_job(self, builder_bench: BuilderBench) -> None:
        """Equal jobs are distinguished by their start key alone, which has up to 64 characters."""
        keys = ("key-1", "key-2", _LONG_KEY)
        ids = {(await _start(builder_bench, key, A="1")).id for key in keys}
        assert len(ids) == len(await builder_bench.started()) == len(keys), (
            f"{len(keys)} starts with different keys made {ids}."
        )

    async def test_jobs_of_different_identifiers_run_side_by_side(
        self, builder_bench: BuilderBench
    ) -> None:
        """Each start runs its job identifier."""
        jobs = [await _start(builder_bench, one, one) for one in builder_bench.job_identifiers]
        expected = {job.id: job.job_identifier for job in jobs}
        started = {job_id: what for job_id, (what, _) in await _all(builder_bench)}
        assert started == expected, f"There is {started} instead of {expected}."

    async def test_a_job_is_found_by_its_start_key(self, builder_bench: BuilderBench) -> None:
        """The start key finds its job, and the key of another start finds none."""
        finder = _able(builder_bench, FindsJobs, "find_job")  # type: ignore[type-abstract]
        job = await _carrying(builder_bench, "op-1")
        for start_key, expected in (("op-1", job), ("op-2", None)):
            found = await finder.find_job(
                start_key=start_key,
                job_identifier=builder_bench.job_identifiers[0],
                started_after=_LONG_AGO,
            )
            assert _known(found) == expected, f"{start_key} found {found} instead of {expected}."

    async def test_a_job_is_found_without_its_job_identifier(
        self, builder_bench: BuilderBench
    ) -> None:
        """The start key alone finds its job among those of all identifiers, and the key of another
        start finds none."""
        finder = _able(builder_bench, FindsJobsAnywhere, "find_job_anywhere")  # type: ignore[type-abstract]
        job = await _carrying(builder_bench, "op-1", builder_bench.job_identifiers[1])
        for start_key, expected in (("op-1", job), ("op-2", None)):
            found = await finder.find_job_anywhere(start_key=start_key, started_after=_LONG_AGO)
            assert _known(found) == expected, f"{start_key} found {found} instead of {expected}."

    async def test_its_own_jobs_are_known_as_its_own(self, builder_bench: BuilderBench) -> None:
        """The builder owns the jobs that it started, of each job identifier."""
        owner = _able(builder_bench, OwnsJobs, "owns")  # type: ignore[type-abstract]
        for number, identifier in enumerate(builder_bench.job_identifiers):
            job = await _carrying(builder_bench, f"op-{number}", identifier)
            assert owner.owns(job.id), f"{job} was started, and it doesn't own it."

    async def test_options_are_for_their_own_starts(self, builder_bench: BuilderBench) -> None:
        """A configured builder starts one job for each start key; the original builder keeps its
        own options."""
        configurable = _able(builder_bench, Configurable, "configured")  # type: ignore[type-abstract]
        identifier = builder_bench.job_identifiers[0]
        before = _build_start(builder_bench.builder, identifier)
        configured = configurable.configured(builder_bench.options)
        first, second = [
            await configured.start_job(identifier, {"A": "1"}, start_key="op-1") for _ in range(2)
        ]
        assert first == second, f"A second start with the same key returned {second}, not {first}."
        after = _build_start(builder_bench.builder, identifier)
        assert after == before, f"Its starts have the options of another one: {after}"
        job = await _carrying(builder_bench, "op-2")
        started = list(await builder_bench.started())
        assert started == [first.id if first else "op-1", job.id], f"There is {started}."

    async def test_an_unknown_option_is_refused(self, builder_bench: BuilderBench) -> None:
        """It raises a PermanentError that names the option: a tier's misspelt one would otherwise
        have no effect."""
        configurable = _able(builder_bench, Configurable, "configured")  # type: ignore[type-abstract]
        said = None
        try:
            configurable.configured({"noSuchOption": "1"})
        except PermanentError as error:
            said = str(error)
        assert said is not None, "The option noSuchOption was accepted."
        assert "noSuchOption" in said, f"The option isn't named: {said}"

    async def test_the_request_of_a_start_starts_nothing(self, builder_bench: BuilderBench) -> None:
        """The request is JSON, which a dry run records: the same for the same start, another one
        for other variables."""
        _able(builder_bench, TellsStarts, "build_start")  # type: ignore[type-abstract]
        builder, identifier = builder_bench.builder, builder_bench.job_identifiers[0]
        built = [_build_start(builder, identifier, **{name: "1"}) for name in ("A", "A", "B")]
        assert built[0] == built[1], f"The same start has two requests: {built[:2]}"
        assert built[0] != built[2], f"The variables are missing from the request: {built[0]}"
        started = await builder_bench.started()
        assert not started, f"A request was built, and there is {started}."

    async def test_jobs_are_described_together(self, builder_bench: BuilderBench) -> None:
        """Each job is described under its id, and one that doesn't exist is left out."""
        describer = _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        jobs = [await _carrying(builder_bench, f"op-{number}") for number in range(3)]
        await builder_bench.forget(jobs[1].id)
        described = await describer.describe_jobs(job_ids=[*(job.id for job in jobs), "none:1"])
        assert set(described) == {jobs[0].id, jobs[2].id}, f"Described was {set(described)}."
        for number, job in ((0, jobs[0]), (2, jobs[2])):
            report = described[job.id]
            assert _known(report.job) == job, f"{job} is described as {report.job}."
            assert report.start_key in (f"op-{number}", None), f"{report} has another start key."
            assert report.status is JobStatus.IN_PROGRESS, f"{job} is running, not {report}."
            assert report.reason is None, f"{job} is running, and has a reason: {report.reason}"

    async def test_no_jobs_are_described_for_no_ids(self, builder_bench: BuilderBench) -> None:
        """A query without ids returns no descriptions, and is no error."""
        describer = _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        described = await describer.describe_jobs(job_ids=[])
        assert described == {}, f"No ids were given, and {described} was described."

    async def test_many_jobs_are_described_at_once(self, builder_bench: BuilderBench) -> None:
        """All are described, though some services accept fewer ids in a request, CodeBuild 100."""
        describer = _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        ids = {(await _carrying(builder_bench, f"op-{number}")).id for number in range(_MANY)}
        described = await describer.describe_jobs(job_ids=sorted(ids))
        assert set(described) == ids, f"Not described: {sorted(ids - set(described))}"

    async def test_a_job_that_is_over_has_its_end_and_its_cause(
        self, builder_bench: BuilderBench
    ) -> None:
        """Its description has the status and the cause, for each end that jobs of the builder can
        have."""
        describer = _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        for status in builder_bench.ends:
            job = await _carrying(builder_bench, f"op-{status}")
            await builder_bench.finish(job.id, status, "the cause")
            report = (await describer.describe_jobs(job_ids=[job.id]))[job.id]
            assert report.status is status, f"{job} ended as {status}, and is {report}."
            assert report.succeeded or "the cause" in (report.reason or ""), (
                f"{job} ended as {status} for the cause, and its reason is {report.reason!r}."
            )

    async def test_a_job_is_stopped(self, builder_bench: BuilderBench) -> None:
        """A job that is stopped once or twice ends; a stop of one that is over or gone has no
        effect."""
        stopper = _able(builder_bench, StopsJobs, "stop_job")  # type: ignore[type-abstract]
        describer = _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        job, over, gone = [await _carrying(builder_bench, f"op-{number}") for number in range(3)]
        await builder_bench.finish(over.id, JobStatus.FAILED, "")
        await builder_bench.forget(gone.id)
        for one in (job, job, over, gone):
            await stopper.stop_job(job_id=one.id)
        described = await describer.describe_jobs(job_ids=[job.id, over.id, gone.id])
        statuses = {job_id: report.status for job_id, report in described.items()}
        expected = {job.id: JobStatus.STOPPED, over.id: JobStatus.FAILED}
        assert statuses == expected, f"After the stops there is {statuses} instead of {expected}."

    async def test_each_way_of_a_stop_can_be_used(self, builder_bench: BuilderBench) -> None:
        """Each way is used, the mildest first, as for a job that ignores it; none has an effect on
        a job that is over or gone."""
        stopper = _able(builder_bench, StopsHarder, "stop_ways")  # type: ignore[type-abstract]
        describer = _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        assert stopper.stop_ways, "stop_ways is empty: leave it out."
        job, over, gone = [await _carrying(builder_bench, f"op-{number}") for number in range(3)]
        await builder_bench.finish(over.id, JobStatus.FAILED, "")
        await builder_bench.forget(gone.id)
        for way in stopper.stop_ways:
            for one in (job, over, gone):
                try:
                    await stopper.stop_job(job_id=one.id, way=way)
                except Exception as error:  # a user's builder may raise anything
                    raise AssertionError(
                        f"The way {way!r} to stop {one} raised: {error}"
                    ) from error
        described = await describer.describe_jobs(job_ids=[job.id, over.id, gone.id])
        statuses = {job_id: report.status for job_id, report in described.items()}
        expected = {job.id: JobStatus.STOPPED, over.id: JobStatus.FAILED}
        assert statuses == expected, f"After the stops there is {statuses} instead of {expected}."

    async def test_a_request_that_comes_twice_is_one_job(self, builder_bench: BuilderBench) -> None:
        """Four concurrent deliveries of one event, and another one after that, start one job."""
        service = _Service(builder_bench)
        async with service.open() as handle:
            await asyncio.gather(*(handle(_EVENT) for _ in range(4)))
            await handle(_EVENT)
        await service.expect_the_one_job()

    async def test_a_lost_answer_is_one_job(self, builder_bench: BuilderBench) -> None:
        """If the connection breaks after the builder has started the job, the service finds that
        job."""
        service = _Service(builder_bench)
        service.builder.loses_answer = True
        async with service.open() as handle:
            await handle(_EVENT)
            await service.let_time_pass(handle)
        await service.expect_the_one_job()

    async def test_a_crash_before_the_start_loses_no_job(self, builder_bench: BuilderBench) -> None:
        """If the process ends just before the start, another one starts the job."""
        service = _Service(builder_bench)
        service.builder.crashes = "before"
        await service.crash_and_take_over()
        await service.expect_the_one_job()

    async def test_a_crash_between_start_and_record_is_one_job(
        self, builder_bench: BuilderBench
    ) -> None:
        """If the process ends after the start and before it has recorded the job, another process
        finds the job and starts no second one."""
        service = _Service(builder_bench)
        service.builder.crashes = "after"
        await service.crash_and_take_over()
        await service.expect_the_one_job()

    async def test_the_end_of_a_job_ends_its_operation(self, builder_bench: BuilderBench) -> None:
        """If the job fails, the tenant's operation fails, with the job's cause as its reason."""
        _able(builder_bench, DescribesJobs, "describe_jobs")  # type: ignore[type-abstract]
        service = _Service(builder_bench)
        async with service.open() as handle:
            await handle(_EVENT)
            started = list(await builder_bench.started())
            assert len(started) == 1, f"One request has made {len(started)} jobs: {started}"
            await builder_bench.finish(started[0], JobStatus.FAILED, "the cause")
            await service.let_time_pass(handle)
        operation = await service.operation()
        assert operation is not None
        assert operation.succeeded is False, f"The job has failed, and this has not: {operation}"
        assert "the cause" in (operation.reason or ""), f"The reason is {operation.reason!r}."


async def _start(
    bench: BuilderBench, start_key: str, job_identifier: str | None = None, **params: Any
) -> Job:
    identifier = job_identifier or bench.job_identifiers[0]
    job = await bench.builder.start_job(identifier, params, start_key=start_key)
    # A job without an id is identified by its start key.
    return Job(id=start_key, builder=bench.name, job_identifier=identifier) if job is None else job


def _build_start(builder: Builder, job_identifier: str, **params: Any) -> object:
    """The request of a start, as it would be recorded; None if the builder has no `build_start`."""
    if not isinstance(builder, TellsStarts):
        return None
    built = builder.build_start(job_identifier, params, start_key="key-1")
    try:
        return json.loads(json.dumps(built))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"The request of a start is no JSON: {error}: {built}") from error


async def _carrying(bench: BuilderBench, start_key: str, job_identifier: str | None = None) -> Job:
    """Start a job that has its start key among its variables, as each job of the service has."""
    job = _known(await _start(bench, start_key, job_identifier, ORCHESTRATOR_RUN_ID=start_key))
    assert job is not None
    return job


def _known(job: Job | None) -> Job | None:
    """The job without what a builder may add or omit in later answers: log link, builder's name."""
    return None if job is None else attrs.evolve(job, log_url=None, builder="")


def _able(bench: BuilderBench, ability: type[_Ability], method: str) -> _Ability:
    if not isinstance(bench.builder, ability):
        pytest.skip(f"{type(bench.builder).__name__} has no {method}.")
    return bench.builder


async def _all(bench: BuilderBench) -> Collection[tuple[str, tuple[str, Collection[str]]]]:
    return (await bench.started()).items()


async def _expect_one(bench: BuilderBench, job: Job) -> None:
    started = list(await bench.started())
    assert started == [job.id], f"There is {started}, and should be {job.id} alone."


class _FailingLedger(InMemoryLedger):
    """A ledger in memory that a crashed process can't reach any more."""

    is_down = False

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        self._check()
        await super().commit(records, unchanged=unchanged)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        self._check()
        return await super().load(keys)

    def _check(self) -> None:
        if self.is_down:
            raise TemporaryError("The process has crashed.")


class _FaultyBuilder:
    """The builder with all of its abilities, whose first start fails in the given way."""

    def __init__(self, inner: Builder, ledger: _FailingLedger) -> None:
        self._inner = inner
        self._ledger = ledger
        self.loses_answer = False
        self.crashes: str | None = None
        for name in dir(inner):
            if not name.startswith("_") and not hasattr(self, name):
                setattr(self, name, getattr(inner, name))

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        if self.crashes == "before":
            self._crash()
        job = await self._inner.start_job(job_identifier, params, start_key=start_key)
        if self.crashes == "after":
            self._crash()
        if self.loses_answer:
            self.loses_answer = False
            raise TemporaryError("The answer was lost.")
        return job

    def _crash(self) -> None:
        self.crashes = None
        self._ledger.is_down = True
        raise TemporaryError("The process has crashed.")


class _NoBuilder:
    """Replaces CodeBuild, which is queried, too, for a job whose builder isn't recorded."""

    async def start_job(
        self,
        job_identifier: str,
        params: Mapping[str, Any],  # noqa: ARG002 - the port's
        *,
        start_key: str,  # noqa: ARG002 - the port's
    ) -> Job | None:
        raise AssertionError(f"{job_identifier} was started on another builder.")


class _Handle:
    """Sends events as a sender that retries later does: a TemporaryError is no failure."""

    def __init__(self, handle_event: Any) -> None:
        self._handle_event = handle_event

    async def __call__(self, event: Mapping[str, Any]) -> None:
        try:
            await self._handle_event(event["detail-type"], event)
        except TemporaryError:
            return
        except OrchestratorError as error:
            raise AssertionError(f"The service answered: {error}") from error


class _Service:
    """A service whose one tier is built by the builder, with a ledger that survives a crash."""

    def __init__(self, bench: BuilderBench) -> None:
        self.bench = bench
        self.clock = ManualClock(_LONG_AGO)
        self.ledger = _FailingLedger()
        self.builder = _FaultyBuilder(bench.builder, self.ledger)
        tier = {"jobIdentifier": bench.job_identifiers[0], "builder": bench.name}
        self._parts = Parts.choose(
            Settings(
                ledger=LedgerSettings(backend="memory"),
                operations=Operations(reconcile_every_s=0),
                builders=Builders(default=bench.name),
                tiers=Tiers(backend="static", static={"TIER": tier}),
            ),
            Extension(builders={CODE_BUILD: _NoBuilder(), bench.name: self.builder}),
            clock=self.clock,
            ledger=self.ledger,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[_Handle]:
        """One process of the service, for the life of the context."""
        async with open_parts(self._parts, sweeps=False) as opened:
            yield _Handle(opened.own.handle_event)

    async def let_time_pass(self, handle: _Handle) -> None:
        """Some minutes, with a sweep and a redelivery in each."""
        for _ in range(_MINUTES):
            self.clock.turn(61)
            await handle(envelope("RECONCILE", {}))
            await handle(_EVENT)

    async def crash_and_take_over(self) -> None:
        async with self.open() as handle:
            await handle(_EVENT)
        assert self.ledger.is_down, "The service has not called start_job."
        self.ledger.is_down = False
        async with self.open() as handle:
            await self.let_time_pass(handle)

    async def operation(self) -> OperationRecord | None:
        """The tenant's last operation."""
        page = await self.ledger.list_operations(tenant_id=_TENANT, limit=1)
        return page.items[0] if page.items else None

    async def expect_the_one_job(self) -> None:
        started = list(await self.bench.started())
        assert len(started) == 1, f"One request has made {len(started)} jobs: {started}"
        operation = await self.operation()
        job = operation.job if operation else None
        assert job is not None, "The job was started, and the service doesn't know it."
        assert job.id == started[0], f"The service knows {job.id}, and there is {started[0]}."
