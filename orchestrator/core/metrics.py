"""Metrics, as a port, and the catalog of all that the service measures.

The core says what happens; an adapter counts it (`adapters.prometheus`, `adapters.emf`). Names
follow Prometheus' conventions (prometheus.io, Metric and label naming). A label has few values: an
event type that is registered, the name of a builder, a kind; never a tenant, an id or a sender's
text.
"""

from contextvars import ContextVar, Token
from enum import Enum, auto
from typing import Protocol

import attrs


class MetricType(Enum):
    COUNTER = auto()
    GAUGE = auto()
    HISTOGRAM = auto()


@attrs.frozen(eq=False)
class Metric:
    """One metric: its name with the suffix that Prometheus shows, and the names of its labels.

    `buckets` are the upper bounds of a histogram, in seconds.
    """

    type: MetricType
    name: str
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Metrics(Protocol):
    """Counts and measures. `labels` are the values of the metric's labels, in their order. Nothing
    raises: no event fails because it isn't counted."""

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Increase a counter."""

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add a value to a histogram."""


class NoMetrics:
    """Measures nothing."""

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None: ...

    def set(self, metric: Metric, value: float, *labels: str) -> None: ...

    def observe(self, metric: Metric, value: float, *labels: str) -> None: ...


NO_METRICS: Metrics = NoMetrics()

#: From a duplicate, which is answered at once, to a handler of ten minutes.
_EVENT_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120, 600)
#: From one request in the same zone to the 5 s that EventBridge waits for an answer.
_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
#: From a deployment without a job to a build of eight hours.
_OPERATION_S = (1, 10, 60, 180, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800)

EVENTS = Metric(
    MetricType.COUNTER,
    "orchestrator_events_total",
    "Events handled, by what became of each attempt; one of no registered type is `unsupported`",
    ("event_type", "outcome"),
)
EVENT_DURATION = Metric(
    MetricType.HISTOGRAM,
    "orchestrator_event_duration_seconds",
    "Time from an event's claim to its answer",
    ("event_type",),
    _EVENT_S,
)
REFUSALS = Metric(
    MetricType.COUNTER,
    "orchestrator_refusals_total",
    "Requests and messages refused, by the status of the answer",
    ("what", "status"),
)
OPERATIONS_OPEN = Metric(
    MetricType.GAUGE,
    "orchestrator_operations_open",
    "Operations under way, as the last sweep found them; 1000 means 1000 or more",
    ("kind",),
)
OPERATION_OLDEST_AGE = Metric(
    MetricType.GAUGE,
    "orchestrator_operation_oldest_age_seconds",
    "Age of the oldest operation under way, as the last sweep found it; 0 without one",
    ("kind",),
)
OPERATION_DURATION = Metric(
    MetricType.HISTOGRAM,
    "orchestrator_operation_duration_seconds",
    "Time from an operation's opening to its end",
    ("kind", "result"),
    _OPERATION_S,
)
JOBS_STARTED = Metric(
    MetricType.COUNTER,
    "orchestrator_jobs_started_total",
    "Jobs that builders accepted",
    ("builder",),
)
REPORTS = Metric(
    MetricType.COUNTER,
    "orchestrator_reports_total",
    "Attempts to send a report to the control plane",
    ("result",),
)
AWS_REQUESTS = Metric(
    MetricType.COUNTER,
    "orchestrator_aws_requests_total",
    "Requests to AWS, with their retries by the SDK as one",
    ("service", "operation", "result"),
)
AWS_REQUEST_DURATION = Metric(
    MetricType.HISTOGRAM,
    "orchestrator_aws_request_duration_seconds",
    "Time to AWS's answer, retries included",
    ("service", "operation"),
    _REQUEST_S,
)
LEDGER_CONFLICTS = Metric(
    MetricType.COUNTER,
    "orchestrator_ledger_conflicts_total",
    "Commits to the ledger that were decided again, since an item had changed",
)
TIER_CACHE = Metric(
    MetricType.COUNTER,
    "orchestrator_tier_cache_total",
    "Lookups of a tier, by whether the cache had it",
    ("result",),
)
SWEEP_LAST_SUCCESS = Metric(
    MetricType.GAUGE,
    "orchestrator_sweep_last_success_timestamp_seconds",
    "When a sweep last read everything that was due, in seconds since 1970",
)
QUEUE_HANDLED = Metric(
    MetricType.COUNTER,
    "orchestrator_queue_messages_handled_total",
    "Messages whose event is in the ledger",
)
QUEUE_KEPT = Metric(
    MetricType.COUNTER,
    "orchestrator_queue_messages_kept_total",
    "Messages left in the queue: not stored, or not events",
)
QUEUE_NOT_DELETED = Metric(
    MetricType.COUNTER,
    "orchestrator_queue_messages_not_deleted_total",
    "Handled messages that failed to delete",
)
QUEUE_FAILED_POLLS = Metric(
    MetricType.COUNTER,
    "orchestrator_queue_failed_polls_total",
    "Polls that failed: queue or ledger unreachable",
)
QUEUE_IN_PROGRESS = Metric(
    MetricType.GAUGE,
    "orchestrator_queue_messages_in_progress",
    "Messages in progress",
)
QUEUE_DURATION = Metric(
    MetricType.HISTOGRAM,
    "orchestrator_queue_message_duration_seconds",
    "Time to handle a message",
    (),
    _EVENT_S,
)
QUEUE_LAG = Metric(
    MetricType.HISTOGRAM,
    "orchestrator_queue_lag_seconds",
    "Age of a message when it is received for the first time",
    (),
    (0.1, 1, 5, 15, 60, 300, 900, 3600),
)
BUILD_INFO = Metric(
    MetricType.GAUGE,
    "orchestrator_build_info",
    "The release that runs; always 1",
    ("version", "python_version"),
)

CATALOG: tuple[Metric, ...] = (
    EVENTS,
    EVENT_DURATION,
    REFUSALS,
    OPERATIONS_OPEN,
    OPERATION_OLDEST_AGE,
    OPERATION_DURATION,
    JOBS_STARTED,
    REPORTS,
    AWS_REQUESTS,
    AWS_REQUEST_DURATION,
    LEDGER_CONFLICTS,
    TIER_CACHE,
    SWEEP_LAST_SUCCESS,
    QUEUE_HANDLED,
    QUEUE_KEPT,
    QUEUE_NOT_DELETED,
    QUEUE_FAILED_POLLS,
    QUEUE_IN_PROGRESS,
    QUEUE_DURATION,
    QUEUE_LAG,
    BUILD_INFO,
)


@attrs.define(eq=False)
class RequestCount:
    """How many requests to AWS were made for an event."""

    made: int = 0


_request_count: ContextVar[RequestCount | None] = ContextVar("request_count", default=None)


def begin_counting(count: RequestCount) -> Token[RequestCount | None]:
    """From now on requests to AWS in this context, and in tasks that it creates, are counted."""
    return _request_count.set(count)


def end_counting(token: Token[RequestCount | None]) -> None:
    """End what `begin_counting` began."""
    _request_count.reset(token)


def count_request() -> None:
    """Count a request to AWS for the event that is being handled, if there is one."""
    if (count := _request_count.get()) is not None:
        count.made += 1
