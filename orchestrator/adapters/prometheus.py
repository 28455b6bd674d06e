"""The metrics in Prometheus' text format, of one process or of all worker processes.

With several processes each writes its values to files of a directory, and the one that answers sums
them up (prometheus_client, Multiprocess Mode). Then there are no metrics of the process itself,
which would be those of the one that happens to answer.
"""

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from orchestrator.core.metrics import BUILD_INFO, CATALOG, Metric, MetricType

#: prometheus_client's own variable.
_SHARED = "PROMETHEUS_MULTIPROC_DIR"

log = structlog.get_logger("orchestrator.metrics")


class PrometheusMetrics:
    """The metrics of one app, in a registry of its own.

    Metrics without labels are there from the start, so that a rate sees their first increase.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        if _SHARED not in os.environ:
            ProcessCollector(registry=self._registry)
        self._families = {metric: _family(metric, self._registry) for metric in CATALOG}
        #: A metric with its labels, found by one look-up: `labels()` takes a lock and checks them.
        self._children: dict[tuple[Metric, tuple[str, ...]], Counter | Gauge | Histogram] = {}
        self._is_lossy = False
        release = version("saas-orchestrator")
        self.set(BUILD_INFO, 1, release, platform.python_version())

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        try:
            child = self._child(metric, labels)
            assert isinstance(child, Counter)  # noqa: S101 - by its type in the catalog
            child.inc(amount)
        except Exception as error:  # noqa: BLE001 - see _lose
            self._lose(metric, error)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        try:
            child = self._child(metric, labels)
            assert isinstance(child, Gauge)  # noqa: S101
            child.set(value)
        except Exception as error:  # noqa: BLE001 - see _lose
            self._lose(metric, error)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        try:
            child = self._child(metric, labels)
            assert isinstance(child, Histogram)  # noqa: S101
            child.observe(value)
        except Exception as error:  # noqa: BLE001 - see _lose
            self._lose(metric, error)

    def as_text(self) -> bytes:
        """All metrics in the text format; with several processes the sums over all."""
        if _SHARED not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _lose(self, metric: Metric, error: Exception) -> None:
        """Log the first value that is lost: files on a full disk raise whatever they raise, and no
        event fails because it isn't counted."""
        if not self._is_lossy:
            self._is_lossy = True
            log.error("metrics not written", metric=metric.name, reason=str(error))

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        child = self._children.get((metric, labels))
        if child is None:
            family = self._families[metric]
            child = self._children[metric, labels] = family.labels(*labels) if labels else family
        return child


def _family(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name, text, labels = metric.name, metric.description, metric.labels
    match metric.type:
        case MetricType.COUNTER:
            return Counter(name, text, labels, registry=registry)
        case MetricType.GAUGE:
            # All processes measure the same thing, such as the open operations.
            return Gauge(name, text, labels, registry=registry, multiprocess_mode="mostrecent")
        case MetricType.HISTOGRAM:
            return Histogram(name, text, labels, registry=registry, buckets=metric.buckets)


@contextmanager
def shared_by_processes() -> Iterator[None]:
    """Processes that are forked in this context share their metrics; entered before any exist."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-metrics-") as folder:
        os.environ[_SHARED] = folder
        try:
            # Chosen when prometheus_client is imported, which is over by now.
            values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
            yield
        finally:
            del os.environ[_SHARED]
            values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
