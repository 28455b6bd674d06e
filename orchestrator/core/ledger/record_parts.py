"""The parts of the ledger's items: jobs, steps, failures and reports, and what is stored of earlier
attempts and starts.

`records.py` has the items themselves.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import attrs

from orchestrator.core.errors import PayloadMismatch
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.urls import web_link

#: The metadata of a field that is written only if it has another value than its default, which is
#: falsy.
SPARSE = {"is_sparse": True}
#: The number of sources whose latest request time is stored with a tenant.
MAX_SOURCES = 10
#: How many attempts of a run are stored, the current one included.
MAX_ATTEMPTS = 20
#: How many earlier starts of an operation are stored beside the current one.
MAX_STARTS = 10
#: How many tries of a report are stored.
MAX_REPORT_TRIES = 10
#: The maximum number of characters of a reason in a history, of which an item has many.
MAX_PAST_REASON = 300


class AttemptState(StrEnum):
    """How an attempt ended, if it has."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    DUPLICATE = "duplicate"
    #: Its process crashed: another attempt began once its lease had expired.
    LEASE_EXPIRED = "lease_expired"


class WaitKind(StrEnum):
    """Why a run waited between two attempts."""

    #: For the tenant, or for another run.
    TENANT = "tenant"
    #: After an error that may pass.
    TEMPORARY = "temporary"
    BUG = "bug"
    #: Until the lease of a crashed process had expired.
    CRASH = "crash"


class OperationState(StrEnum):
    """Whether an operation is over."""

    OPEN = "open"
    OVER = "over"
    #: Ended without a job, as if it had never been opened: the tenant is in its former state.
    GIVEN_BACK = "given_back"


@attrs.frozen(kw_only=True, slots=False)
class Stored:
    """A part of an item. `unknown` has the fields of another release that this one doesn't have:
    `attrs.evolve` keeps them, a new value has none."""

    unknown: Mapping[str, Any] = attrs.field(
        factory=dict, eq=False, repr=False, metadata={"is_shown": False}
    )


@attrs.frozen(kw_only=True, slots=False)
class Job(Stored):
    """A started job: its id at its builder, and the link to its log (None unless it is http(s)).

    `builder` is the name under which its builder is registered. Only a dry run's job has a
    `request`: the one that would have started it.
    """

    id: str
    #: A builder may omit it, since `core.jobs.builder_calls` sets it.
    builder: str = ""
    job_identifier: str
    log_url: str | None = attrs.field(default=None, converter=web_link)
    request: Mapping[str, Any] | None = None

    @property
    def is_dry(self) -> bool:
        """Whether it is a dry run's, never started."""
        return self.request is not None

    def is_same_as(self, builder: str, job_id: str) -> bool:
        """Whether it is the same job: ids are unique only within a builder."""
        return self.builder == builder and self.id == job_id

    def with_log(self, link: str | None) -> "Job":
        """The same job with a better link to its log, if there is one."""
        return self if link is None else evolve(self, log_url=link)


@attrs.frozen(kw_only=True, slots=False)
class Step(Stored):
    """A remembered step; `result` is JSON. `recorded_at` is its end; `started_at` None: unknown."""

    name: str
    result: Any
    started_at: datetime | None = attrs.field(metadata=SPARSE, default=None)
    recorded_at: datetime


@attrs.frozen(kw_only=True, slots=False)
class Failure(Stored):
    """Why a run did not succeed. `traceback` is stored for bugs and never shown over HTTP."""

    type: str
    message: str
    errors: tuple[PayloadMismatch, ...] = ()
    traceback: str | None = None

    @property
    def is_bug(self) -> bool:
        return self.traceback is not None


@attrs.frozen(kw_only=True, slots=False)
class PastAttempt(Stored):
    """An attempt before the current one. `is_replay`: an operator's replay began it; `by` is the
    name of who that was, None: unknown."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    state: AttemptState
    reason: str | None = attrs.field(metadata=SPARSE, default=None)
    is_replay: bool = attrs.field(metadata=SPARSE, default=False)
    by: str | None = attrs.field(metadata=SPARSE, default=None)


@attrs.frozen(kw_only=True, slots=False)
class Pauses(Stored):
    """How often and how long (seconds) a run has waited between two attempts."""

    count: int
    seconds: float


@attrs.frozen(kw_only=True, slots=False)
class Awaited(Stored):
    """What a run waits for: an operation to end, a run before it, or both."""

    operation_id: str | None = None
    run_id: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class WebhookCredentials(Stored):
    """Secret and context that sign a report; those of the latest request of several."""

    secret: str = attrs.field(repr=False)
    context: str
    as_of: datetime


@attrs.frozen(kw_only=True, slots=False)
class ReportTry(Stored):
    """One attempt to deliver a report. `answer` is the HTTP status or a sentence; None: unknown,
    since its process crashed."""

    at: datetime
    answer: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class Report(Stored):
    """The report of an operation's outcome to the control plane, and the state of its delivery.

    `tries` counts attempts, `recent` are the last `MAX_REPORT_TRIES` that are over;
    `may_have_arrived`: the answer to one of them is unknown. `posting_until` is when the attempt
    under way is over at the latest, and no other attempt has the same. `done_at` is when it was
    accepted, or given up for `trouble`.
    """

    url: str
    body: Mapping[str, Any]
    tries: int = 0
    may_have_arrived: bool = False
    posting_until: datetime | None = None
    done_at: datetime | None = None
    trouble: str | None = None
    recent: tuple[ReportTry, ...] = attrs.field(metadata=SPARSE, default=())

    def tried(self, at: datetime, answer: str | None) -> "tuple[ReportTry, ...]":
        """`recent`, with another attempt."""
        return (*self.recent, ReportTry(at=at, answer=answer))[-MAX_REPORT_TRIES:]

    @property
    def was_accepted(self) -> bool:
        return self.done_at is not None and self.trouble is None


@attrs.frozen(kw_only=True, slots=False)
class Asked(Stored):
    """A tenant's latest request: the operation that it opened or joined.

    `times` has, for each source of such requests, the latest time that one of them named; the
    source of the latest request is the last.
    """

    operation_id: str
    kind: Kind
    times: Mapping[str, datetime] = attrs.field(factory=dict)

    def with_time(self, source: str, sent_at: datetime | None) -> "Asked":
        """The same, after a request of that source and time (None: without a time)."""
        if sent_at is None:
            return self
        latest = max(sent_at, self.times.get(source, sent_at))
        others = {name: time for name, time in self.times.items() if name != source}
        kept = list(others.items())[-(MAX_SOURCES - 1) :]
        return evolve(self, times=dict([*kept, (source, latest)]))


@attrs.frozen(kw_only=True, slots=False)
class PastStart(Stored):
    """A start of an operation before the current one. `reported_at` is when its report was
    accepted or given up; `by` is who replayed it, `cancelled_by` who cancelled it."""

    number: int
    opener: str
    state: OperationState
    opened_at: datetime
    ended_at: datetime | None = None
    succeeded: bool | None = None
    reason: str | None = None
    job: Job | None = None
    job_since: datetime | None = None
    outcome: str | None = None
    reported_at: datetime | None = None
    by: str | None = None
    cancelled_by: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class Waiter(Stored):
    """A run that waits for a tenant, and the kind of operation that it requests."""

    run_id: str
    kind: Kind
