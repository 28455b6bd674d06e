"""The watch of the ledger's model test: sees every write and every start, and reports violations.

It has the builder's true state and the true holder of each run, which no worker can have.
"""

from collections.abc import Mapping, Sequence, Set
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, cast

import attrs

from orchestrator.core.clock import Clock
from orchestrator.core.events.event_types import ENDS, OPENS, Kind
from orchestrator.core.identifiers import operation_id
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.lifecycle import MOVES
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import (
    OperationRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
    operation_key,
    run_key,
    tenant_key,
)
from tests.integration.ledger_facts import (
    Names,
    Report,
    SomeBuild,
    SomeWorker,
    Stray,
    in_words,
    is_only_put_off,
    is_secured,
    start_key_of,
)

#: The operation whose refusal this task posts; None: it posts another report.
_refusal: ContextVar[str | None] = ContextVar("refusal", default=None)


class Watch:
    """All items as they are stored, and the violations found in how they came about (`broken`)."""

    def __init__(
        self, builds: Sequence[Any], clock: Clock, sender: ContextVar[int], *, deadline_s: float
    ) -> None:
        self._builds: Sequence[SomeBuild] = builds
        self._clock, self._sender, self._deadline_s = clock, sender, deadline_s
        self._holders: dict[tuple[str, int], tuple[int, SomeWorker]] = {}
        #: Starts whose end the control plane has accepted.
        self._reported: set[str] = set()
        #: Operations whose refusal the control plane has accepted, and those that know it.
        self.refused: set[str] = set()
        self._known_refused: set[str] = set()
        #: Until when an operation's last report is being posted, if its answer was not received.
        self._posting_until: dict[str, datetime] = {}
        self.items: dict[str, Record] = {}
        self.commits = 0
        self.reports: dict[str, Report] = {}
        self.forced: set[str] = set()
        #: The request key of each request's run, and the runs that wait for the tenant, in order.
        self.asked: dict[str, str] = {}
        self._line: list[str] = []
        #: Requests that joined an open operation.
        self._joined: set[str] = set()
        #: When a run was last written as succeeded or duplicate.
        self.done: dict[str, int] = {}
        self.broken: list[str] = []

    def runs(self) -> list[RunRecord]:
        return [one for one in self.items.values() if isinstance(one, RunRecord)]

    def operations(self) -> list[OperationRecord]:
        return [one for one in self.items.values() if isinstance(one, OperationRecord)]

    def operation(self, name: str | None) -> OperationRecord | None:
        found = self.items.get(operation_key(name or ""))
        assert found is None or isinstance(found, OperationRecord)
        return found

    def is_recorded(self, job_id: str) -> bool:
        """An operation has the job."""
        return any(one.job is not None and one.job.id == job_id for one in self.operations())

    def is_open(self, start_key: str) -> bool:
        """The operation is open, and at this start."""
        operation = self.operation(start_key.rpartition("-")[0])
        is_open = operation is not None and operation.state is OperationState.OPEN
        return operation is not None and is_open and start_key_of(operation) == start_key

    def is_unclaimed(self, start_key: str) -> bool:
        """The operation is open, at this start, and its end is not claimed."""
        operation = self.operation(start_key.rpartition("-")[0])
        return self.is_open(start_key) and operation is not None and operation.outcome is None

    def newest(self, start_key: str) -> SomeBuild:
        """The newest build of the start, among those that its builder still has, if any."""
        same = [one for one in self._builds if one.start_key == start_key]
        known = [one for one in same if not one.is_forgotten]
        return (known or same)[-1]

    def receive_report(self, start_key: str | None, *, succeeded: bool) -> int:
        """A report reaches the control plane; returns its answer. A report that names no start had
        no job."""
        refused = _refusal.get()
        if refused is not None:
            answer = 401 if refused in self.refused else 204
            self.refused.add(refused)
            return answer
        if start_key is None:
            return 204
        if start_key in self._reported:
            return 401
        operation = self.operation(start_key.rpartition("-")[0])
        is_true = operation is not None and operation.succeeded is succeeded
        self._claim_that(is_true, f"{start_key} was reported otherwise than it ended")
        self._reported.add(start_key)
        return 204

    @property
    def strays(self) -> Set[Stray]:
        """The jobs that run again after their end was claimed, each with its number of runs."""
        return {(one.job.id, one.runs) for one in self._builds if one.is_stray}

    def state_change_is_done(self, detail: Mapping[str, Any], strays: Set[Stray]) -> None:
        """A state change was answered 200: its effect must have taken place.

        The `strays` are those of the time when its handling began.
        """
        job_id = detail["build-id"].rpartition("/")[2]
        (build,) = (one for one in self._builds if one.job.id == job_id)
        is_left = (job_id, build.runs) in strays & self.strays
        self._claim_that(not is_left, f"{job_id} runs again, and isn't stopped")
        is_over = not build.is_running and self.newest(build.start_key) is build
        stays_open = self.is_open(build.start_key) and detail["build-status"] != "IN_PROGRESS"
        # The end of a job that ran again after its end was claimed is none of its operation.
        is_shown = is_over and not build.is_forgotten and not build.was_stray
        self._claim_that(
            not (stays_open and is_shown), f"{job_id} is over, and its operation stays open"
        )

    def starts(self, start_key: str) -> None:
        """A start takes effect: its sender must hold a run at this very start."""
        mine = [
            run
            for run in self.runs()
            if run.status is RunStatus.RUNNING
            and start_key_of(run) == start_key
            and self._is_held(run, self._sender.get())
        ]
        self._claim_that(bool(mine), "a start was sent by a process that lost its lease")

    def written(self, records: Sequence[Record], worker: SomeWorker) -> list[str]:
        """Items were written; returns them in words."""
        self.commits += 1
        line = list(self._line)
        former = {record.key: self.items.get(record.key) for record in records}
        self.items |= {one.key: attrs.evolve(one, version=one.version + 1) for one in records}
        lines = []
        for record in records:
            old = former[record.key]
            if isinstance(record, RunRecord):
                assert old is None or isinstance(old, RunRecord)
                self._run_written(old, record, worker, is_with_others=former)
                self._look_at_line(old, record, line)
                lines.append(in_words(record))
            if isinstance(record, OperationRecord):
                assert old is None or isinstance(old, OperationRecord)
                self._operation_written(old, record)
                self._look_at_report(old, record, worker)
                lines.append(in_words(record))
            if isinstance(record, TenantRecord):
                assert old is None or isinstance(old, TenantRecord)
                self._tenant_written(old, record, line)
                lines.append(in_words(record))
        return lines

    def look(self) -> None:
        """The invariants of all items."""
        running = [build for build in self._builds if build.is_running and not build.is_stray]
        for start_key in {build.start_key for build in running}:
            jobs = [build.job.id for build in running if build.start_key == start_key]
            self._claim_that(len(jobs) == 1, f"{jobs} run for one start")
        for build in running:
            self._look_at_job(build)
        for item in self.items.values():
            if isinstance(item, TenantRecord) and item.operation_id is not None:
                holder = self.operation(item.operation_id)
                is_open = holder is not None and holder.state is OperationState.OPEN
                self._claim_that(
                    is_open, f"{item.tenant_id} is held by an operation that isn't open"
                )
            if isinstance(item, OperationRecord) and item.state is OperationState.OPEN:
                is_holder = item.kind is None or self._holds(item)
                self._claim_that(is_holder, f"an open {item.kind} doesn't hold its tenant")
            if isinstance(item, RunRecord):
                is_due = item.due_at is not None
                self._claim_that(
                    is_due is not item.status.is_finished, f"{item.status}, but due: {item.due_at}"
                )

    def _look_at_job(self, build: SomeBuild) -> None:
        operation = self.operation(build.start_key.rpartition("-")[0])
        if operation is None or operation.kind is None:
            return
        is_held = self.is_open(build.start_key) and self._holds(operation)
        self._claim_that(
            is_held, f"{build.job.id} runs, and its {operation.kind} released the tenant"
        )

    def _run_written(
        self,
        old: RunRecord | None,
        new: RunRecord,
        worker: SomeWorker,
        *,
        is_with_others: Mapping[str, Record | None],
    ) -> None:
        me = self._sender.get()
        is_noted = old is not None and new == attrs.evolve(old, note=new.note, link=new.link)
        # Its tenant is free, and its turn has come.
        is_woken = old is not None and old.status is RunStatus.RETRY and new.due_at is not None
        is_woken = is_woken and old is not None and new == attrs.evolve(old, due_at=new.due_at)
        if is_noted or is_woken:
            return
        if old is not None and new.waits == old.waits + 1 and is_only_put_off(old, new):
            # The sweep postponed what it couldn't claim: no process may hold the lease.
            self._look_at_take_over(old)
            return
        is_counted = old is not None and new.bugs == old.bugs + 1 and new.status is RunStatus.RETRY
        if old is not None and is_counted and not self._is_at_work(old, me):
            # The claim broke down: no process may hold the lease.
            self._look_at_take_over(old)
            open_again = old.status is not RunStatus.SUCCEEDED and new.attempt == old.attempt
            self._claim_that(open_again, "a breakdown was counted that isn't the run's")
        elif old is not None and new.attempt == old.attempt:
            self._claim_that(
                old.status is RunStatus.RUNNING and self._is_held(old, me),
                f"attempt {new.attempt} was written by a process that doesn't hold it",
            )
        elif old is not None:
            self._claim_that(new.attempt == old.attempt + 1, "an attempt isn't the next one")
            self._look_at_take_over(old)
        if new.status is RunStatus.RUNNING and (old is None or new.attempt != old.attempt):
            self._holders[new.run_id, new.attempt] = me, worker
        if new.status in (RunStatus.SUCCEEDED, RunStatus.DUPLICATE):
            self.done[new.run_id] = self.commits
            self._look_at_promise(new, is_with_others)

    def _look_at_take_over(self, old: RunRecord) -> None:
        if old.status is not RunStatus.RUNNING or old.lease_until is None:
            return
        _, holder = self._holders[old.run_id, old.attempt]
        is_over = old.lease_until <= holder.now()
        self._claim_that(
            is_over, "a run was taken over before its lease expired by its holder's clock"
        )

    def _look_at_promise(self, run: RunRecord, former: Mapping[str, Record | None]) -> None:
        """A run that is recorded as succeeded or duplicate must be done."""
        operation = self.operation(run.operation_id)
        if run.status is RunStatus.DUPLICATE:
            theirs = (operation, self.operation(run.outcome_of))
            self._claim_that(
                any(map(is_secured, theirs)), "a duplicate of an operation that isn't secured"
            )
        elif run.event_type in OPENS:
            follows = any(key != run.key and key.startswith(run_key("")) for key in former)
            secured = is_secured(operation) or follows
            self._claim_that(
                secured,
                f"{run.event_type} succeeded, and its operation has neither a job nor an end",
            )
        elif run.event_type not in ENDS:
            self._claim_that(run.job is not None, f"{run.event_type} succeeded without its job")
        ended = self.operation(run.outcome_of)
        is_taken = ended is not None and ended.outcome == run.run_id
        if ended is not None and is_taken:
            self._claim_that(ended.state is OperationState.OVER, "an outcome got lost")
        report = self.reports.get(run.run_id)
        if report is not None and report.names in (Names.JOB, Names.START):
            operation_of_report = self.operation(report.start_key.rpartition("-")[0])
            recorded = operation_of_report.job if operation_of_report else None
            # A report of a job that was built again since doesn't count, also once the builder has
            # discarded the newer job.
            is_newest = self.newest(report.start_key).job.id == report.job_id
            is_its_job = is_newest and (recorded is None or recorded.id == report.job_id)
            must_count = self.is_open(report.start_key) and (
                is_its_job or report.names is Names.START
            )
            is_counted = (
                operation_of_report is not None and operation_of_report.told_by == run.run_id
            )
            self._claim_that(
                is_counted or not must_count, f"{report.job_id} reported, and it changed nothing"
            )

    def _look_at_line(self, old: RunRecord | None, new: RunRecord, line: Sequence[str]) -> None:
        """A waiting run keeps its place; no run joins an operation that a run which waits before it
        is to end."""
        is_woken = old is not None and old.status is new.status is RunStatus.RETRY
        is_woken = is_woken and old is not None and old.attempt == new.attempt
        if new.event_type not in OPENS or is_woken:
            return
        is_claimed = new.attempt > (old.attempt if old else 0)
        if new.status is not RunStatus.RETRY or not is_claimed:
            self._line = [one for one in self._line if one != new.run_id]
        elif new.run_id not in self._line:
            self._line.append(new.run_id)
        joined = self.operation(new.operation_id)
        if new.status is not RunStatus.DUPLICATE or joined is None or old == new:
            return
        if joined.state is OperationState.OPEN:
            self._joined.add(new.run_id)
        kind = OPENS[new.event_type]
        wanted = operation_id(joined.tenant_id or "", kind, self.asked[new.run_id])
        if joined.state is OperationState.OPEN and joined.operation_id != wanted:
            rivals = [
                run for run in self._before(new.run_id, line) if OPENS[run.event_type] != kind
            ]
            self._claim_that(not rivals, f"{new.event_id} joined before the turn of {rivals}")

    def _before(self, run_id: str, line: Sequence[str]) -> list[RunRecord]:
        before = line[: line.index(run_id)] if run_id in line else line
        runs = (self.items.get(run_key(one)) for one in before)
        return [run for run in runs if isinstance(run, RunRecord)]

    def _look_at_turn(self, operation: OperationRecord, line: Sequence[str]) -> None:
        """The operation of a request is opened in turn, and no later request of its source for
        another operation has been handled."""
        opener = self.items.get(run_key(operation.opener))
        assert isinstance(opener, RunRecord)
        if opener.event_type not in OPENS:
            return
        before = [run.event_id for run in self._before(opener.run_id, line)]
        self._claim_that(
            not before, f"{opener.event_id} was handled before {before}, which wait before it"
        )
        later = [
            run.event_id
            for run in self.runs()
            if (run.status is RunStatus.SUCCEEDED or run.run_id in self._joined)
            and OPENS.get(run.event_type, operation.kind) != operation.kind
            and run.source == opener.source
            and None not in (run.sent_at, opener.sent_at)
            and cast("datetime", run.sent_at) > cast("datetime", opener.sent_at)
        ]
        is_forced = opener.run_id in self.forced
        self._claim_that(
            is_forced or not later, f"{opener.event_id} begins, and the later {later} succeeded"
        )

    def _operation_written(self, old: OperationRecord | None, new: OperationRecord) -> None:
        start_key = start_key_of(new)
        if new.job is not None:
            made = [one for one in self._builds if one.job.id == new.job.id]
            is_its_own = bool(made) and made[0].start_key == start_key
            self._claim_that(is_its_own, f"{new.job.id} is recorded for another start")
        if old is None:
            return
        is_same_start = old.start_number == new.start_number
        if is_same_start and old.job is not None and new.job != old.job:
            self._look_at_rebuild(old, new)
        if old.outcome is None and new.outcome is not None and is_same_start and new.job:
            self._look_at_claim(new, new.job)
        if old.state is OperationState.OPEN and new.state is OperationState.OVER and new.job:
            (build,) = (one for one in self._builds if one.job.id == new.job.id)
            is_so = new.succeeded is (build.status is JobStatus.SUCCEEDED)
            is_so = is_so or build.is_forgotten or build.was_stray
            self._claim_that(
                is_so, f"{build.job.id} is {build.status}, and its operation ended otherwise"
            )
        is_done = new.report is not None and new.report.done_at is not None
        is_kept = new.credentials is not None and new.state is not OperationState.OPEN
        self._claim_that(not (is_done and is_kept), "a secret outlived its report")
        if old.state is OperationState.OVER and new.state is OperationState.OPEN:
            opener = self.items.get(run_key(old.opener))
            at_rest = isinstance(opener, RunRecord) and (
                opener.status.is_finished or new.opener == old.opener
            )
            self._claim_that(at_rest, "opened again while its opener is in progress")

    def _look_at_report(
        self, old: OperationRecord | None, new: OperationRecord, worker: SomeWorker
    ) -> None:
        """Reports are posted one after the other, and none while a new attempt is in progress."""
        before, report = old.report if old else None, new.report
        if new.state is OperationState.GIVEN_BACK and report is not None and report.was_accepted:
            self._known_refused.add(new.operation_id)
        begun = report.posting_until if report else None
        if before is not None and report is not None and begun is None:
            is_answered = report.tries == before.tries and before.posting_until is not None
            if is_answered:
                self._posting_until.pop(new.operation_id, None)
        if old is None or report is None or begun is None:
            return
        if before is not None and before.posting_until == begun:
            return
        start_key, is_refusal = start_key_of(new), new.state is OperationState.GIVEN_BACK
        _refusal.set(new.operation_id if is_refusal else None)
        has_ended = is_refusal or new.state is OperationState.OVER
        self._claim_that(has_ended, f"{start_key} is reported while it is in progress")
        reported, expected = report.body["data"]["status"], int(new.succeeded or False)
        self._claim_that(reported == expected, f"{start_key} is reported as {reported}")
        is_new = not is_refusal or new.operation_id not in self._known_refused
        self._claim_that(is_new, f"the refusal of {start_key} was accepted, and is posted again")
        under_way = self._posting_until.get(new.operation_id)
        is_alone = under_way is None or under_way <= worker.now()
        self._claim_that(is_alone, f"two reports of {start_key} are posted at once")
        self._posting_until[new.operation_id] = begun

    def _look_at_rebuild(self, old: OperationRecord, new: OperationRecord) -> None:
        """A newer build replaces one that is over, before the end of that one is claimed."""
        assert old.job is not None
        (former,) = (one for one in self._builds if one.job.id == old.job.id)
        newer = [one for one in self._builds if new.job and one.job.id == new.job.id]
        may = old.outcome is None and not former.is_running and new.rebuilds == old.rebuilds + 1
        is_newer = bool(newer) and newer[0].is_rebuild
        self._claim_that(may and is_newer, "a recorded job was replaced")

    def _look_at_claim(self, new: OperationRecord, job: Job) -> None:
        """The end is claimed of the newest build, which must be over. The end of an unknown build
        needs a reason: its self-report, a stop, its deadline."""
        (build,) = (one for one in self._builds if one.job.id == job.id)
        self._claim_that(not build.is_running, f"{job.id} runs, and its end is claimed")
        is_newest = build.is_forgotten or self.newest(build.start_key) is build
        self._claim_that(is_newest, f"the end of {job.id} is claimed, though it was built again")
        until = (new.job_since or new.opened_at) + timedelta(seconds=self._deadline_s - 3)
        has_reason = bool(new.told_by or new.stop_reason) or until <= self._clock.now()
        if build.is_forgotten and not has_reason:
            self.broken.append(f"{job.id} is only unknown, and its end is claimed")

    def _tenant_written(
        self, old: TenantRecord | None, new: TenantRecord, line: Sequence[str]
    ) -> None:
        before = (old.state, old.operation_id) if old else (None, None)
        is_legal = before == (new.state, new.operation_id)
        waiting = [one.run_id for one in new.waiting if one.run_id in self._line]
        self._claim_that(waiting == self._line, f"{self._line} wait, and {waiting} are recorded")
        if new.operation_id is not None and new.operation_id != before[1]:
            opened = self.operation(new.operation_id)
            if opened is not None and opened.kind is not Kind.CLEAN_UP:
                self._look_at_turn(opened, line)
        match before, (new.state, new.operation_id):
            case _ if is_legal:
                pass
            case (former, None), (now, str() as begun):
                operation = self.operation(begun)
                if operation is not None and operation.kind is not None:
                    moves = MOVES[operation.kind]
                    may = former in moves.opens_from or operation.opener in self.forced
                    is_legal = may and now is moves.during
            case (former, str() as closed), (now, None):
                operation = self.operation(closed)
                if operation is not None and operation.kind is not None:
                    moves = MOVES[operation.kind]
                    result = moves.succeeded if operation.succeeded else moves.failed
                    gave_back = operation.state is OperationState.GIVEN_BACK
                    is_legal = now is (operation.former_state if gave_back else result)
            case (_, str() as closed), (now, str() as begun):
                failed, operation = self.operation(closed), self.operation(begun)
                if failed is not None and operation is not None:
                    is_over = failed.state is OperationState.OVER and failed.succeeded is False
                    kinds = (failed.kind, operation.kind)
                    is_clean_up = kinds == (Kind.PROVISIONING, Kind.CLEAN_UP)
                    is_legal = is_over and is_clean_up and now is MOVES[Kind.CLEAN_UP].during
        self._claim_that(is_legal, f"{before} became {(new.state, new.operation_id)}")

    def _holds(self, operation: OperationRecord) -> bool:
        tenant = self.items.get(tenant_key(operation.tenant_id or ""))
        return isinstance(tenant, TenantRecord) and tenant.operation_id == operation.operation_id

    def _is_at_work(self, run: RunRecord, by: int) -> bool:
        return run.status is RunStatus.RUNNING and self._is_held(run, by)

    def _is_held(self, run: RunRecord, by: int) -> bool:
        return self._holders[run.run_id, run.attempt][0] == by

    def _claim_that(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)
