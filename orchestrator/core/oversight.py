"""Jobs are watched to their end, whoever says that it has come.

    state change ─────────────► builder ───┐
    report of the job's own ──► builder ───┼──► one outcome event for each start ──► registry
    sweep: due for a look ────► builder ───┘
    cancel, deadline ─────────► stop ──────┘

The builder's answer counts: a message, whoever sends it, is a reason to ask. Nothing is
settled here. The outcome is an event like any other, with one key for each start, so that
whoever comes second finds it handled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import structlog

from orchestrator.core import builder_calls
from orchestrator.core.books import Books
from orchestrator.core.conditions import (
    is_gone_for_good,
    is_overdue,
    is_stray,
    is_under_way,
    may_record,
    may_replace,
)
from orchestrator.core.errors import (
    EventTooLarge,
    PermanentError,
    TemporaryError,
)
from orchestrator.core.events import OWN_SOURCE, Event
from orchestrator.core.guarding import guarded
from orchestrator.core.jobs import Answer, JobReport, SomeNotDescribed, Unseen
from orchestrator.core.lifecycle import ENDS, Ending, outcome_type
from orchestrator.core.looks import Next, what_follows
from orchestrator.core.operations import (
    Adopted,
    Orphaned,
    adopt,
    ask_again,
    ask_to_stop,
    begin_look,
    count_stops,
    end_alone,
    note_stop,
    replace,
)
from orchestrator.core.parcels import unpack_event
from orchestrator.core.payloads import named_for, read_reason
from orchestrator.core.ports import (
    Builder,
    DescribesJobs,
    OwnsJobs,
    StopsHarder,
    StopsJobs,
    UnreadableItems,
)
from orchestrator.core.records import (
    Job,
    JobRecord,
    OperationRecord,
    is_operation_id,
    operation_key,
    read_start_key,
    shorten,
)
from orchestrator.core.variables import START_KEY

#: After so long (seconds) a builder that contradicts a message is asked again.
_ASK_AGAIN_S = 5.0

#: An operation whose job is due for a look, and the job.
Watched = tuple[OperationRecord, Job]


@attrs.frozen(kw_only=True)
class _End:
    """How an operation's start ends; `report` is the builder's, if it has one. `cleans_up` False:
    nobody knows how the job ended, so that what it has made stays."""

    succeeded: bool
    reason: str | None
    report: JobReport | None = None
    cleans_up: bool = True

    @property
    def link(self) -> str | None:
        """Where the job is watched, as its builder says."""
        return self.report.job.log_url if self.report else None


log = structlog.get_logger("orchestrator.oversight")


@attrs.frozen(kw_only=True)
class Overseer:
    """Knows how jobs stand, and has operations end.

    `conclude` handles an outcome event. `stops_overdue`: a job beyond its deadline is stopped.
    `cleans_up_unknown`: a clean-up follows though nobody knows how the provisioning's job ended.
    `dry_run`: jobs that were really started are left alone, and otherwise those that weren't.
    """

    books: Books
    builders: Mapping[str, Builder]
    stops_overdue: bool
    conclude: Callable[[Event[Mapping[str, Any]]], Awaitable[object]]
    dry_run: bool = False
    cleans_up_unknown: bool = False

    async def ask_about(self, operation_id: str) -> None:
        """A job has told of itself: see what its builder says. It is due, whatever comes of it."""
        trouble = await self.attend([operation_id])
        if trouble is not None:
            log.info("not asked about yet", operation_id=operation_id, reason=str(trouble))

    @property
    def askable(self) -> frozenset[str]:
        """The builders that can be asked how a job stands."""
        return frozenset(
            name for name, builder in self.builders.items() if isinstance(builder, DescribesJobs)
        )

    async def identify(self, job: Job, start_key: str | None) -> OperationRecord | None:
        """The operation of the job that reports on itself, by its id, else by its start key.

        `start_key` is what the job says of itself: it counts where the builder can't be asked.

        Raises:
            TemporaryError: ledger or builder can't be reached, or the builder doesn't show the job
                yet whose start waits for one.
        """
        known = await self.books.find_job(job.builder, job.id)
        if known is not None:
            return await self._started(known)
        named = read_start_key(start_key or "")
        if job.builder not in self.askable:
            adopted = await self._tie(job, *named) if named else None
            return adopted.operation if isinstance(adopted, Adopted) else None
        report = await self.describe(job)
        if report is None:
            if named and await self._waits_for_job(*named):
                raise not_shown_yet(job)
            return None
        start = self.start_of(report)
        operation = await self.books.find_operation(start[0]) if start else None
        if start is None or operation is None or start[1] > operation.start_number:
            return None
        return await self.adopt(report, operation, start[1])

    def start_of(self, report: JobReport) -> tuple[str, int] | None:
        """The operation and the number of the start that the job names, if it may be one of ours:
        others may run something under a start key, too."""
        named = read_start_key(report.start_key or "")
        builder: object = self.builders.get(report.job.builder)
        is_foreign = isinstance(builder, OwnsJobs) and not builder.owns(report.job.id)
        if named is None or builder is None or is_foreign or not is_operation_id(named[0]):
            return None
        return named

    async def adopt(
        self, report: JobReport, operation: OperationRecord, number: int
    ) -> OperationRecord | None:
        """The operation, if the job of its start `number` is its own, now or before; a job that
        runs though no operation can have it is stopped.

        `report` is the builder's answer, `operation` as it stood before that was asked for.

        Raises:
            TemporaryError: the ledger can't be reached, or the job couldn't be stopped.
        """
        job, former = report.job, operation.job
        if former is not None and report.replaces == former.id:
            await self._replace(operation, former, job)
            return None
        is_other = former is not None and not former.is_same_as(job.builder, job.id)
        if former is not None and is_other and may_replace(operation, number, former):
            newest = await self.describe(former)
            if newest is not None and newest.replaces == former.id and newest.job.id == job.id:
                operation = await self._replace(operation, former, job) or operation
        if operation.job is None and may_record(operation, number, job):
            adopted = await self._tie(job, operation.operation_id, number)
            found = (
                adopted.operation
                if isinstance(adopted, Adopted)
                else await self.books.find_operation(operation.operation_id)
            )
            if found is None:
                return None
            operation = found
        if not report.is_over and is_stray(operation, number, job):
            await self._stop_stray(job)
            return None
        return operation if may_record(operation, number, job) else None

    async def describe(self, job: Job) -> JobReport | None:
        """What the job's builder answers; None: it doesn't know the job.

        Raises:
            TemporaryError: the builder can't be reached.
        """
        return (await self._describe(job.builder, [job.id])).get(job.id)

    async def attend(self, operation_ids: Collection[str]) -> TemporaryError | None:
        """Look at the jobs of those operations that are due for it.

        All at once, so that a builder that hangs holds up nothing besides. What comes back is why
        ledger or builder couldn't be reached, if so.
        """
        looks = await asyncio.gather(
            *(
                guarded(self.books, operation_key(one), partial(self._begin_look, one))
                for one in operation_ids
            )
        )
        trouble: TemporaryError | None = None
        watched: dict[str, list[Watched]] = {}
        for look in looks:
            match look:
                case OperationRecord(job=Job() as job):
                    watched.setdefault(job.builder, []).append((look, job))
                case TemporaryError() if not isinstance(look, UnreadableItems):
                    trouble = look
        found = await asyncio.gather(
            *(self._attend_on(name, some) for name, some in watched.items())
        )
        return next(filter(None, found), trouble)

    async def _attend_on(self, name: str, watched: Sequence[Watched]) -> TemporaryError | None:
        """Look at the jobs of one builder; why it couldn't tell of all, if so."""
        failed, hidden = frozenset[str](), frozenset[str]()
        trouble: TemporaryError | None = None
        try:
            reports = await self._describe(name, [job.id for _, job in watched])
        except SomeNotDescribed as error:
            log.warning("some jobs can't be asked about", builder=name, reason=str(error))
            reports, failed, hidden = error.reports, error.failed, error.hidden
            trouble = error if failed else None
        except TemporaryError as error:
            log.warning("jobs can't be asked about", builder=name, reason=str(error))
            return error
        unseen = Unseen.UNKNOWN if name in self.askable else None
        async with asyncio.TaskGroup() as tasks:
            for operation, job in watched:
                if job.id not in failed:
                    answer = Unseen.HIDDEN if job.id in hidden else reports.get(job.id, unseen)
                    tasks.create_task(self._safely(operation, job, answer))
        return trouble

    async def ask_again(self, operation_id: str, number: int) -> None:
        """A message says that the job of that start is over and its builder doesn't: have it asked
        again soon."""
        await self.books.decide(lambda view: ask_again(view, operation_id, number, _ASK_AGAIN_S))

    async def end(
        self, operation: OperationRecord, answer: Answer, reason: str | None = None
    ) -> str:
        """The operation ends by what its job's builder answers, or for `reason`, where that can't
        be asked; the id of the run that says so.

        Raises:
            OrchestratorError: the outcome couldn't be handled yet; it is kept.
        """
        ending, told = await self._told(operation)
        end = self._how_it_ends(operation, answer, reason, ending, told)
        if operation.kind is None:
            await self.books.decide(lambda view: end_alone(view, operation, end.reason, end.link))
            return operation.opener
        outcome = self._outcome(operation, end, told)
        try:
            await self.conclude(outcome)
        except EventTooLarge:
            # That it is over counts for more than all that it had to tell.
            await self.conclude(self._outcome(operation, end, {}))
        return outcome.key

    def _how_it_ends(
        self,
        operation: OperationRecord,
        answer: Answer,
        reason: str | None,
        ending: Ending | None,
        told: Mapping[str, Any],
    ) -> _End:
        """By the builder's word; else, where the builder has forgotten the job, by its own."""
        reasons = [operation.stop_reason]
        report = answer if isinstance(answer, JobReport) else None
        succeeded, cleans_up = report is not None and report.succeeded, True
        match answer:
            case JobReport():
                reasons.append(answer.reason)
            case Unseen():
                succeeded = ending is not None and ending.succeeded
                reasons.append(_forgotten(operation.job, ending, read_reason(told)))
                is_only_unknown = ending is None and operation.stop_reason is None
                cleans_up = self.cleans_up_unknown or not is_only_unknown
            case None:
                reasons = [reason]
        said = None if succeeded else " ".join(filter(None, reasons))
        return _End(
            succeeded=succeeded,
            reason=shorten(said) if said else None,
            report=report,
            cleans_up=cleans_up,
        )

    async def stop(self, operation: OperationRecord, reason: str) -> None:
        """Have the operation's job stopped, and the operation ended once the job is, or at once
        without a job.

        Raises:
            OrchestratorError: the builder can't be reached, or the outcome couldn't be handled yet.
        """
        asked = await self.books.decide(
            lambda view: ask_to_stop(view, operation.operation_id, operation.start_number, reason)
        )
        if asked is None:
            return
        if asked.job is None:
            await self.end(asked, None, asked.stop_reason)
            return
        job = asked.job
        builder: object = self.builders.get(job.builder)
        if isinstance(builder, StopsJobs):
            await self._stop(asked, job, builder)
        else:
            log.error("a job is to be stopped, and its builder can't", job_id=job.id)
        if job.builder not in self.askable:
            await self.end(asked, None, asked.stop_reason)
            return
        answer = await self.describe(job) or Unseen.UNKNOWN
        match self._what_follows(asked, answer):
            case Next.END:
                await self.end(asked, answer)
            case Next.REPLACE if isinstance(answer, JobReport):
                await self._replace(asked, job, answer.job)
            case _:
                pass

    async def _stop(self, asked: OperationRecord, job: Job, builder: StopsJobs) -> None:
        """Have the job stopped; harder, if it had its time to heed an earlier stop and didn't."""
        if not isinstance(builder, StopsHarder):
            await builder_calls.stop_job(job.builder, builder, job.id)
            log.info("job stopped", job_id=job.id, reason=asked.stop_reason)
            return
        ways = builder.stop_ways
        number = count_stops(asked, ways, self.books.clock.now())
        way = ways[min(number, len(ways)) - 1]
        await builder_calls.stop_job(job.builder, builder, job.id, way=way)
        log.info("job stopped", job_id=job.id, way=way, reason=asked.stop_reason)
        if number > asked.stops:
            await self.books.decide(lambda view: note_stop(view, asked, number, ways))
        if number > len(ways):
            log.error("a job heeds no stop: end it by hand", job_id=job.id, builder=job.builder)

    def leaves_alone(self, job: Job | None) -> bool:
        """It is no business of this service's: a dry run has seen to it, or is this one."""
        return job is not None and job.is_dry is not self.dry_run

    async def _begin_look(self, operation_id: str) -> OperationRecord | None:
        return await self.books.decide(
            lambda view: begin_look(view, operation_id, self.books.terms)
        )

    async def _describe(self, name: str, job_ids: Sequence[str]) -> Mapping[str, JobReport]:
        """How the jobs stand; one that the builder refuses to hear of is left out.

        A refusal doesn't say which of them it means, so the others are asked about without it.
        """
        builder: object = self.builders.get(name)
        if not isinstance(builder, DescribesJobs):
            return {}
        try:
            return await builder_calls.describe_jobs(name, builder, job_ids)
        except PermanentError as error:
            if len(job_ids) == 1:
                log.warning("job can't be asked about", job_id=job_ids[0], reason=str(error))
                return {}
            half = len(job_ids) // 2
            return await self._describe_parts(name, job_ids[:half], job_ids[half:])

    async def _describe_parts(self, name: str, *parts: Sequence[str]) -> Mapping[str, JobReport]:
        """What there is to tell of all parts; trouble with one says nothing of another's jobs."""
        reports, failed, hidden = dict[str, JobReport](), set[str](), set[str]()
        trouble: TemporaryError | None = None
        for part in parts:
            try:
                reports |= await self._describe(name, part)
            except SomeNotDescribed as error:
                trouble = error
                reports |= error.reports
                failed |= error.failed
                hidden |= error.hidden
            except TemporaryError as error:
                trouble = error
                failed |= set(part)
        if trouble is None:
            return reports
        raise SomeNotDescribed(str(trouble), reports=reports, failed=failed, hidden=hidden)

    async def _safely(self, operation: OperationRecord, job: Job, answer: Answer) -> None:
        """One operation's trouble is kept with its outcome, and is nobody else's."""
        await guarded(self.books, operation.key, partial(self._look_at, operation, job, answer))

    async def _look_at(self, operation: OperationRecord, job: Job, answer: Answer) -> None:
        if self.leaves_alone(job):
            log.error("a job of a dry run and a real one don't go together", job_id=job.id)
            return
        match self._what_follows(operation, answer):
            case Next.END:
                await self.end(operation, answer)
            case Next.STOP:
                deadline_s = self.books.terms.deadline_s
                too_long = f"The job {job.id} took longer than {deadline_s:g} s."
                await self.stop(operation, operation.stop_reason or too_long)
            case Next.REPLACE:
                assert isinstance(answer, JobReport)  # noqa: S101 - which names the newer one
                await self._replace(operation, job, answer.job)
            case Next.WAIT:
                self._tell_of_waiting(operation, job, answer)

    async def _replace(
        self, operation: OperationRecord, former: Job, newer: Job
    ) -> OperationRecord | None:
        """The builder has built the job again: the next look is at the newer one. None: the end of
        the former one is claimed."""
        own, number, terms = operation.operation_id, operation.start_number, self.books.terms
        replaced = await self.books.decide(
            lambda view: replace(view, own, number, former, newer, terms)
        )
        if replaced is not None:
            log.info("job was built again", job_id=newer.id, former_job_id=former.id)
        return replaced

    def _what_follows(self, operation: OperationRecord, answer: Answer) -> Next:
        now, terms = self.books.clock.now(), self.books.terms
        return what_follows(operation, answer, now, terms, stops_overdue=self.stops_overdue)

    def _tell_of_waiting(self, operation: OperationRecord, job: Job, answer: Answer) -> None:
        now, terms = self.books.clock.now(), self.books.terms
        about = {"job_id": job.id, "operation_id": operation.operation_id}
        if isinstance(answer, Unseen) and is_gone_for_good(operation, now, terms):
            log.warning("job unknown to its builder: waiting for its deadline", **about)
        elif answer is not None and is_overdue(operation, now, terms):
            log.warning("job overdue", **about)

    async def _started(self, job: JobRecord) -> OperationRecord | None:
        """The operation that the job was started for, unless it is at another start by now."""
        operation = await self.books.find_operation(job.operation_id)
        is_at_it = operation is not None and operation.start_number == job.start_number
        return operation if is_at_it else None

    async def _waits_for_job(self, operation_id: str, number: int) -> bool:
        operation = await self.books.find_operation(operation_id)
        return is_under_way(operation, number) and operation.job is None

    async def _stop_stray(self, job: Job) -> None:
        builder: object = self.builders.get(job.builder)
        if not isinstance(builder, StopsJobs):
            log.error("an orphaned job runs, and its builder can't stop it", job_id=job.id)
            return
        try:
            await builder_calls.stop_job(job.builder, builder, job.id)
        except PermanentError as error:
            raise TemporaryError(f"The orphaned job {job.id} can't be stopped: {error}") from error
        log.warning("stopped an orphaned job: its operation can't have it", job_id=job.id)

    async def _tie(self, job: Job, operation_id: str, number: int) -> Adopted | Orphaned:
        terms = self.books.terms
        return await self.books.decide(
            lambda view: adopt(view, operation_id, number, job, None, terms)
        )

    async def _told(self, operation: OperationRecord) -> tuple[Ending | None, Mapping[str, Any]]:
        """How the job says that it ended, and what else it told of itself, if it did; nothing of it
        once each look has broken down."""
        if operation.told_by is None or operation.bugs >= self.books.terms.max_attempts:
            return None, {}
        run, payload = await self.books.find_kept(operation.told_by)
        if run is None:
            return None, {}
        ending = ENDS.get(run.event_type)
        try:
            return ending, unpack_event(run, payload).body if payload else {}
        except Exception as error:
            # That it is over counts for more than what the job had to tell.
            log.error("what a job told can't be read", run_id=operation.told_by, exc_info=error)
            return ending, {}

    def _outcome(
        self, operation: OperationRecord, end: _End, told: Mapping[str, Any]
    ) -> Event[Mapping[str, Any]]:
        """The event that ends the operation's present start."""
        assert operation.kind is not None  # noqa: S101 - one without holds no tenant
        known = {
            "tier": operation.tier,
            "operationId": operation.operation_id,
            START_KEY: operation.start_key,
            "reason": end.reason,
            "endedJob": _ended_job(operation.job, end),
        }
        about = named_for(told, operation.tenant_id)
        body = {**about, **{name: value for name, value in known.items() if value is not None}}
        return Event(
            type=outcome_type(operation.kind, succeeded=end.succeeded),
            source=OWN_SOURCE,
            id=operation.outcome_id,
            time=self.books.clock.now(),
            body=body,
            raw=body,
            payload=body,
            ends_start=operation.start_key,
        )


def not_shown_yet(job: Job) -> TemporaryError:
    return TemporaryError(f"{job.builder} doesn't show the job {job.id} yet.")


def _forgotten(job: Job | None, ending: Ending | None, reason: str | None) -> str:
    """That a builder has no report of the job any more, and what the job itself has told."""
    assert job is not None  # noqa: S101 - somebody was asked about it
    forgotten = f"{job.builder} doesn't know the job {job.id} any more"
    if ending is None:
        return f"{forgotten}: it was deleted or discarded, and has reported no end."
    why = f": {reason.rstrip('.')}" if reason else ""
    return f"{forgotten}, which reported a failure{why}."


def _ended_job(job: Job | None, end: _End) -> Mapping[str, Any] | None:
    if job is None:
        return None
    report = end.report
    ended = {
        "id": job.id,
        "builder": job.builder,
        "jobIdentifier": job.job_identifier,
        "status": report.status.value if report else "UNKNOWN",
        "logUrl": (report.job.log_url if report else None) or job.log_url,
        "phase": report.phase if report else None,
        "message": report.message if report else None,
        "exportedVariables": dict(report.exported) if report else {},
        "cleansUp": None if end.cleans_up else False,
    }
    return {name: value for name, value in ended.items() if value is not None}
