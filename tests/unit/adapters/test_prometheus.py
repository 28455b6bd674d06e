"""Metrics that worker processes share: what happens where their files can't be written."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.prometheus import PrometheusMetrics, shared_by_processes
from orchestrator.core.metrics import EVENT_DURATION, EVENTS, OPERATIONS_OPEN, Metrics

#: No file may grow beyond this, in bytes: less than the metrics of the test take.
LIMIT = 1 << 20


@contextmanager
def no_room() -> Iterator[None]:
    """The operating system refuses to let files grow, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    with shared_by_processes():
        yield PrometheusMetrics()


def test_an_event_does_not_fail_where_it_cannot_be_counted(metrics: Metrics) -> None:
    """On a full disk metrics are lost, which the log says once."""
    with capture_logs() as logs, no_room():
        for number in range(10_000):
            metrics.add(EVENTS, f"TYPE_{number}", "succeeded")
            metrics.observe(EVENT_DURATION, 1.0, f"TYPE_{number}")
            metrics.set(OPERATIONS_OPEN, 1, f"kind-{number}")
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("metrics not written", "error")
    assert "File too large" in line["reason"]
