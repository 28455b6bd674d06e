"""The scene of the ledger's model test: events, their senders and answers, and the end.

The state machine (`test_ledger_model`) chooses what happens next; the scene does it.
"""

import asyncio
from collections.abc import Coroutine, Set
from datetime import datetime, timedelta
from enum import StrEnum, auto
from typing import Any

import attrs
from hypothesis import note

from orchestrator.core.dispatch.orchestrator import Handled, Orchestrator
from orchestrator.core.errors import OrchestratorError, PermanentError
from orchestrator.core.events.event_types import BUILD_STATE_CHANGE, ENDS, outcome_type
from orchestrator.core.identifiers import digest
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.guards import last_possible_send
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import Due, RunRecord, SecretsRecord
from orchestrator.testing import ManualClock, envelope
from tests.integration.ledger_facts import Names, Report, Stray
from tests.integration.ledger_worker import AttemptRunner
from tests.integration.ledger_world import (
    CATALOGS,
    TIMINGS,
    Build,
    Fate,
    Gate,
    TurnedLoop,
    World,
    sender,
)

TENANT = "t1"
SOURCE = "TenantManagementService"
#: Longer than any pause of a run's, so that each sweep of the end finds everything due.
_LONGEST_PAUSE_S = 301.0
_SWEEPS_TO_THE_END = 40


class Edge(StrEnum):
    """A moment at which differences between clocks matter."""

    DUE = auto()  # something is due, by every clock
    LEASE = auto()  # a lease ends
    LISTING = auto()  # by one clock a start must be listed, if there was one; by another not yet


@attrs.frozen
class Sent:
    """An event as its sender sent it."""

    event_type: str
    body: dict[str, Any]


@attrs.define(eq=False)
class Deed:
    """A delivery, a replay or a sweep whose caller waits for the answer."""

    worker: AttemptRunner
    task: asyncio.Task[Any]
    begun_at: int
    sent: Sent | None
    strays: Set[Stray]
    """The jobs that ran again when it began."""


class Scene:
    """Three workers over one ledger, their senders, and the builds that report."""

    def __init__(self, loop: TurnedLoop, ledger: Ledger, clock: ManualClock) -> None:
        self.loop = loop
        self.world = World(loop, ledger, clock)
        self.watch = self.world.watch
        self.workers = [self._start(index, 0.0) for index in range(3)]
        self.sent: list[Sent] = []
        self.deeds: list[Deed] = []
        self.requests = self.reports = 0
        #: The runs of requests that brought a secret.
        self.with_secret: set[str] = set()
        self._answered: set[int] = set()
        self._number = 0

    # Events that arrive.

    def request(
        self,
        by: int,
        event_type: str,
        detail: dict[str, Any],
        *,
        key: str | None,
        sent_s: float | None,
    ) -> None:
        """A request with that key, dated so many seconds from now by its sender."""
        self.requests += 1
        run_id = digest(event_type, SOURCE, f"event-{len(self.sent) + 1}")
        self.watch.asked[run_id] = key or run_id
        if key is not None:
            self.with_secret.add(run_id)
        self._send(by, event_type, detail, sent_s)

    def deliver(self, by: int, sent: Sent) -> None:
        worker, orchestrator = self.workers[by]
        self.world.tell(f"{worker.name}: {sent.event_type} {sent.body['id']} comes in")
        self._do(worker, orchestrator.handle_event(sent.event_type, sent.body), sent)

    def replay(self, by: int, run: RunRecord, *, is_forced: bool) -> None:
        if is_forced:
            self.watch.forced.add(run.run_id)
        worker, orchestrator = self.workers[by]
        self.world.tell(f"{worker.name}: replay of {run.event_id}, forced: {is_forced}")
        self._do(worker, orchestrator.replay(run.run_id, force=is_forced))

    def sweep(self, by: int) -> None:
        worker, orchestrator = self.workers[by]
        self.world.tell(f"{worker.name}: sweep")
        self._do(worker, orchestrator.reconcile())

    def cancel(self, by: int) -> None:
        worker, orchestrator = self.workers[by]
        self.world.tell(f"{worker.name}: cancel")
        self._do(worker, orchestrator.cancel(TENANT, clean_up=True))

    def end(self, by: int, build: Build, status: JobStatus, *, is_published: bool) -> None:
        """A build ends, and CodeBuild sends its state change or doesn't."""
        self.world.end(build, status)
        if is_published:
            self._send(by, BUILD_STATE_CHANGE, _state_change(build))

    def is_quiet(self) -> bool:
        """No process is at work, and no end that was noticed waits to be claimed."""
        waiting = [run for run in self.watch.runs() if run.event_type in ENDS]
        at_work = any(deed.worker.is_alive for deed in self.deeds)
        return not at_work and all(run.status.is_finished for run in waiting)

    def forget(self, build: Build) -> None:
        """The builder discards the build."""
        self.world.forget(build)

    def run_again(self, by: int, build: Build) -> None:
        """A build is redriven, which only its state change shows."""
        self.world.run_again(build)
        self._send(by, BUILD_STATE_CHANGE, _state_change(build))

    def build_again(self, build: Build) -> None:
        """The build fails, and the builder has made the next one of the same start."""
        self.world.end(build, JobStatus.FAILED)
        self.world.build_again(build)

    def reportable(self) -> list[Build]:
        """Builds of tenants' operations; a build of an order has no operation to report on."""
        operations = {one.operation_id: one for one in self.watch.operations()}
        return [
            build
            for build in self.world.builds
            if (operation := operations.get(build.start_key.rpartition("-")[0])) and operation.kind
        ]

    def report(self, by: int, build: Build, succeeded: bool, names: Names, is_over: bool) -> None:
        """A build reports on itself, at its end or before; how it ended is CodeBuild's answer
        alone."""
        operation_id = build.start_key.rpartition("-")[0]
        operation = self.watch.operation(operation_id)
        assert operation is not None
        assert operation.kind is not None
        named = {
            Names.JOB: {"CODEBUILD_BUILD_ID": build.job.id},
            Names.START: {"ORCHESTRATOR_RUN_ID": build.start_key},
            Names.OPERATION: {"operationId": operation_id},
            Names.NOTHING: {},
        }[names]
        self.reports += 1
        if is_over:
            self.world.end(build, JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED)
        event_type = outcome_type(operation.kind, succeeded=succeeded)
        self.world.tell(f"{build.job.id} reports, naming {names}; over: {is_over}")
        key = digest(event_type, SOURCE, f"event-{len(self.sent) + 1}")
        self.watch.reports[key] = Report(names, build.job.id, build.start_key)
        self._send(by, event_type, {"tenantId": operation.tenant_id, **named})

    # The fates of effects.

    def gates(self, worker: AttemptRunner | None = None) -> list[Gate]:
        gates = [gate for gate in self.world.gates if gate.worker.is_alive]
        return [gate for gate in gates if worker in (None, gate.worker)]

    def decide(self, gate: Gate, fate: Fate) -> None:
        self.world.tell(f"{gate.worker.name}: {gate.what}, {fate}")
        gate.opened.set_result(fate)
        self.go_on()
        self.watch.look()

    def let_through(self, worker: AttemptRunner | None, effects: int) -> None:
        for _ in range(effects):
            gates = self.gates(worker)
            if not gates:
                return
            self.decide(gates[0], Fate.DONE)

    def turn(self, seconds: float) -> None:
        self.world.turn(seconds)
        self.world.tell(f"{seconds} s pass")
        self.go_on()

    def turn_to(self, edge: Edge) -> None:
        """Let time pass until the next such moment."""
        now = self.world.clock.now()
        ahead = [moment - now for moment in self._moments(edge) if moment > now]
        self.turn(min(ahead).total_seconds() if ahead else 0.0)

    def crash(self, by: int) -> None:
        worker, _ = self.workers[by]
        worker.is_alive = False
        self.workers[by] = self._start(by, worker.offset_s)

    def go_on(self) -> None:
        self.loop.run_until_complete(self.world.settle_down())
        for deed in [deed for deed in self.deeds if deed.task.done()]:
            self.deeds.remove(deed)
            self._take_note(deed)

    # The end of a timeline.

    def come_to_an_end(self) -> None:
        """Without further faults, jobs end, unanswered events are sent again and sweeps run until
        no work is left."""
        world = self.world
        world.tell("no more faults")
        world.catalog, world.lag_s = CATALOGS["sound"], 0.0
        world.after_start = world.breaks = None
        for number in range(_SWEEPS_TO_THE_END):
            self.let_through(None, 300)
            for build in world.builds:
                world.end(build, JobStatus.SUCCEEDED)
            for index, sent in enumerate(self.sent):
                if index not in self._answered:
                    self.deliver(number % 3, sent)
                    self.let_through(None, 300)
            self.turn(_LONGEST_PAUSE_S)
            self.let_through(None, 300)
            self.sweep(number % 3)
            self.let_through(None, 300)
            if not self.unfinished():
                break
        if self.unfinished():
            note("\n".join(world.story))
        assert not self.unfinished(), self.unfinished()
        items = self.loop.run_until_complete(world.ledger.load(list(self.watch.items)))
        assert items == self.watch.items

    def _moments(self, edge: Edge) -> list[datetime]:
        """Such moments, for each run that has one."""
        runs = self.watch.runs()
        second = timedelta(seconds=1)
        match edge:
            case Edge.DUE:
                operations = self.watch.operations()
                kept = [one for one in self.watch.items.values() if isinstance(one, SecretsRecord)]
                items: list[Due] = [*runs, *operations, *kept]
                due = [one.due_at for one in items]
                return [moment + second for moment in due if moment]
            case Edge.LEASE:
                return [run.lease_until for run in runs if run.lease_until]
            case Edge.LISTING:
                lag = timedelta(seconds=TIMINGS.listing_lag_s)
                possible = (last_possible_send(run) for run in runs if not run.status.is_finished)
                return [until + lag - second for until in possible if until]

    def unfinished(self) -> list[str]:
        watch = self.watch
        left = [f"run {run.event_type} {run.status}" for run in watch.runs() if run.due_at]
        left += [
            f"{one.kind} of {one.tenant_id} is open"
            for one in watch.operations()
            if one.state is OperationState.OPEN
        ]
        left += [
            f"the report of {one.start_key} was not accepted: {one.report.trouble}"
            for one in watch.operations()
            if one.report is not None and (one.report.done_at is None or one.report.trouble)
        ]
        left += [
            f"the refusal of {one.start_key} was not accepted"
            for one in watch.operations()
            if one.state is OperationState.GIVEN_BACK
            and one.opener in self.with_secret
            and one.operation_id not in watch.refused
            # A report of an earlier start was accepted: it ended the request in the control plane.
            and not (one.report and one.report.was_accepted)
        ]
        left += [f"the store keeps {name}" for name in self.world.secrets]
        left += [
            f"secrets of {one.start_key} are due"
            for one in watch.items.values()
            if isinstance(one, SecretsRecord) and one.due_at is not None
        ]
        unanswered = len(self.sent) - len(self._answered)
        return [*left, *([f"{unanswered} unanswered"] if unanswered else [])]

    def _send(
        self, by: int, event_type: str, detail: dict[str, Any], sent_s: float | None = 0.0
    ) -> None:
        sent_at = self.world.clock.now() + timedelta(seconds=sent_s or 0.0)
        body = envelope(
            event_type,
            detail,
            event_id=f"event-{len(self.sent) + 1}",
            source=SOURCE,
            time=sent_at.isoformat(),
        )
        if sent_s is None:
            del body["time"]
        self.sent.append(Sent(event_type, body))
        self.deliver(by, self.sent[-1])

    def _start(self, index: int, offset_s: float) -> tuple[AttemptRunner, Orchestrator]:
        worker = AttemptRunner(f"worker {index}", self.world, offset_s)
        return worker, worker.open()

    def _do(
        self, worker: AttemptRunner, what: Coroutine[Any, Any, Any], sent: Sent | None = None
    ) -> None:
        self._number += 1
        number = self._number

        async def deed() -> Any:
            sender.set(number)
            return await what

        task = self.loop.create_task(deed(), name=f"deed {number}")
        self.deeds.append(Deed(worker, task, self.watch.commits, sent, self.watch.strays))
        self.go_on()

    def _take_note(self, deed: Deed) -> None:
        """A caller gets an answer: it must be true, and an error one of the orchestrator's."""
        watch, task = self.watch, deed.task
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            said = str(error) if error else "cancelled"
            self.world.tell(f"{deed.worker.name}: {task.get_name()} ends: {said}")
            if error is not None and not isinstance(error, OrchestratorError):
                watch.broken.append(f"{type(error).__name__}: {error}")
            is_final = isinstance(error, PermanentError)
        else:
            self.world.tell(f"{deed.worker.name}: {task.get_name()} ends: {task.result()}")
            is_final = True
        if deed.sent is None or not is_final:
            return
        self._answered.add(self.sent.index(deed.sent))
        if error is None:
            self._look_at_answer(deed, task.result())

    def _look_at_answer(self, deed: Deed, answer: Handled) -> None:
        watch = self.watch
        assert deed.sent is not None
        if deed.sent.event_type == BUILD_STATE_CHANGE:
            watch.state_change_is_done(deed.sent.body["detail"], deed.strays)
            return
        own = digest(deed.sent.event_type, deed.sent.body["source"], deed.sent.body["id"])
        done_at = watch.done.get(own, -1)
        if done_at < (0 if answer.replayed else deed.begun_at):
            watch.broken.append(f"{deed.sent.event_type} was answered 200, and isn't handled")

    def close(self) -> None:
        """Callers that still wait are cancelled; what their tasks would do then doesn't happen."""
        self.world.is_closed = True
        self.loop.run_until_complete(_cancel_all())


def _state_change(build: Build) -> dict[str, Any]:
    project = {"name": "ORCHESTRATOR_PROJECT", "value": build.job.job_identifier}
    own_key = {"name": "ORCHESTRATOR_RUN_ID", "value": build.start_key}
    return {
        "build-id": f"arn:aws:codebuild:us-east-1:1:build/{build.job.id}",
        "build-status": build.status.value,
        "project-name": build.job.job_identifier,
        "additional-information": {"environment": {"environment-variables": [project, own_key]}},
    }


async def _cancel_all() -> None:
    """Cancel all tasks but those that serve the connections to the embedded AWS: such a connection
    would stay open, and its next request would get no answer."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    names = {one: getattr(one.get_coro(), "__qualname__", "") for one in tasks}
    tasks = {one for one, name in names.items() if name != "RequestHandler.start"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
