"""Observes how events are handled: for each a count, a duration, and one line in the log.

The line has all that is known at the end (a canonical log line), so that one query over the log
answers which tenant, which job, how often and why. It is `settled` for an attempt of a run, and
`answered` for an event that began none: a duplicate, one that waits, one that is queued.
"""

import asyncio
from collections.abc import Container
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

import attrs
import structlog

from orchestrator.core.clock import Clock
from orchestrator.core.errors import (
    BeingHandled,
    EventKeyReused,
    HandedBack,
    HandlerFailed,
    NotAllowed,
    OrchestratorError,
    TakenOver,
    TemporaryError,
    Waiting,
)
from orchestrator.core.events.event_types import ENDS, OPENS, RECONCILE
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.records import RunStatus
from orchestrator.core.metrics import (
    EVENT_DURATION,
    EVENTS,
    Metrics,
    RequestCount,
    begin_counting,
    end_counting,
)
from orchestrator.core.tracing import NO_SPAN, NO_TRACING, Span, Tracing, Value

#: The label of an event whose type has no handler: senders may invent any number of types.
UNSUPPORTED = "unsupported"

#: The outcome of an event whose handling raised an error; the first match counts.
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (BeingHandled, "in_progress"),
    (Waiting, "waiting"),
    (TakenOver, "taken_over"),
    (HandedBack, "handed_back"),
    (asyncio.CancelledError, "handed_back"),
    (TemporaryError, "retry"),
    (NotAllowed, "refused"),
    (EventKeyReused, "refused"),
    (HandlerFailed, "error"),
    (OrchestratorError, "failed"),
    (BaseException, "error"),
)

#: The outcomes that fail a span; the others are expected, such as to wait for a tenant.
_FAILURES = ("retry", "failed", "error")
_RESULTS = {True: "success", False: "failure"}

#: All outcomes, those without an error first.
OUTCOMES = frozenset(
    {
        "succeeded",
        "noted",
        "ignored",
        "queued",
        "duplicate",
        *(outcome for _, outcome in _OUTCOMES),
    }
)

log = structlog.get_logger("orchestrator.events")


class Answer(Protocol):
    """What the sender of a handled event gets (`orchestrator.Handled`)."""

    @property
    def run_id(self) -> str | None: ...

    @property
    def replayed(self) -> bool: ...

    @property
    def queued(self) -> bool: ...


@attrs.frozen(kw_only=True)
class Observer:
    """Observes the events of one orchestrator; `registered` are the types that have a handler."""

    clock: Clock
    metrics: Metrics
    registered: Container[str]
    tracing: Tracing = NO_TRACING

    def handling(
        self, event_type: str, run_id: str | None = None, *, trace: str | None = None
    ) -> "Handling":
        """Entered (`with`) while an event is handled; `run_id` is that of its run."""
        return Handling(self, event_type, run_id, trace)

    def label_of(self, event_type: str) -> str:
        """The type if it has a handler or is a sweep, else `unsupported`."""
        is_known = event_type in self.registered or event_type == RECONCILE
        return event_type if is_known else UNSUPPORTED


class Handling:
    """The handling of one event, and the facts that become known meanwhile.

    `outcome` is set where the answer doesn't imply it; an error takes precedence over both.
    """

    def __init__(
        self, observer: Observer, event_type: str, run_id: str | None, trace: str | None
    ) -> None:
        self.answer: Answer | None = None
        self.outcome: str | None = None
        self.lease: RunLease | None = None
        self.tenant_id: str | None = None
        self.tier: str | None = None
        self.span: Span = NO_SPAN
        self._observer = observer
        self._event_type = event_type
        self._run_id = run_id
        self._trace = trace
        self._requests = RequestCount()

    def __enter__(self) -> "Handling":
        observer = self._observer
        self._label = observer.label_of(self._event_type)
        self._began = observer.clock.now()
        self._token = begin_counting(self._requests)
        if observer.tracing is not NO_TRACING:
            self._scope = observer.tracing.span(f"process {self._label}", parent=self._trace)
            self.span = self._scope.__enter__()
            self.span.link(self._trace)
            self._trace = observer.tracing.current()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_counting(self._token)
        observer = self._observer
        took_s = (observer.clock.now() - self._began).total_seconds()
        outcome = self._outcome(error)
        observer.metrics.add(EVENTS, self._label, outcome)
        observer.metrics.observe(EVENT_DURATION, took_s, self._label)
        if observer.tracing is not NO_TRACING:
            self._end_span(outcome, error)
        # An attempt that lost its lease, or reached no ledger, has settled nothing.
        is_settled = self.lease is not None and self.lease.run.status is not RunStatus.RUNNING
        log.info("settled" if is_settled else "answered", **self._known(outcome, took_s, error))

    def _outcome(self, error: BaseException | None) -> str:
        if error is not None:
            return next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
        answer = self.answer
        if self.outcome is not None:
            return self.outcome
        if answer is None or answer.run_id is None:
            return "ignored"
        if answer.queued:
            return "queued"
        return "duplicate" if answer.replayed else "succeeded"

    def _end_span(self, outcome: str, error: BaseException | None) -> None:
        if error is not None and outcome in _FAILURES:
            self.span.fail(type(error).__name__)
        self.span.set(self._attributes(outcome))
        self._scope.__exit__(None, None, None)

    def _attributes(self, outcome: str) -> dict[str, Value | None]:
        """The span's attributes; of an outcome, how its job ended (OpenTelemetry, Semantic
        conventions for CICD)."""
        run = self.lease.run if self.lease else None
        ending = ENDS.get(self._event_type)
        return {
            "orchestrator.outcome": outcome,
            "orchestrator.event_type": self._event_type,
            "orchestrator.run_id": self._run_id,
            "orchestrator.tenant_id": self.tenant_id,
            "orchestrator.attempt": run.attempt if run else None,
            "cicd.pipeline.result": _RESULTS[ending.succeeded] if ending else None,
        }

    def _known(self, outcome: str, took_s: float, error: BaseException | None) -> dict[str, Any]:
        """The fields of the line; those without a value are left out."""
        known: dict[str, Any] = {
            "outcome": outcome,
            "event_type": self._event_type,
            "duration_s": round(took_s, 3),
            "aws_requests": self._requests.made,
        }
        if error is not None:
            known["reason"] = str(error)
        elif self.answer is not None and self.answer.replayed:
            known["answered_by"] = self.answer.run_id
        if self._run_id is not None:
            known["run_id"] = self._run_id
        if self.tenant_id is not None:
            known["tenant_id"] = self.tenant_id
        if self.tier is not None:
            known["tier"] = self.tier
        if self._trace is not None:
            known["trace"] = self._trace
        if self.lease is not None:
            known |= _of_run(self.lease, self._began)
        return known


def _of_run(lease: RunLease, began: datetime) -> dict[str, Any]:
    run = lease.run
    known: dict[str, Any] = {
        "attempt": run.attempt,
        "status": run.status.value,
        "waited_s": round(max(0.0, (began - run.first_seen).total_seconds()), 3),
    }
    ending = ENDS.get(run.event_type)
    kind = ending.kind if ending else OPENS.get(run.event_type)
    operation_id = run.outcome_of if ending else run.operation_id
    if kind is not None:
        known["kind"] = kind.value
        if operation_id is not None:
            known["operation_id"] = operation_id
    if run.job is not None:
        known |= {"builder": run.job.builder, "job_id": run.job.id}
    return known
