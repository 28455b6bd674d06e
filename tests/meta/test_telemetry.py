"""docs/telemetry.md names each metric with its labels, and no other."""

import re
from pathlib import Path

from orchestrator.core import metrics
from orchestrator.core.metrics import CATALOG, Metric, MetricType

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"
_ROW = re.compile(r"^\| `(orchestrator_\w+)` \| (.*?) ?\| .+ \|$", re.MULTILINE)
#: Prometheus documentation, Metric and label naming.
_NAME = re.compile(r"orchestrator_[a-z]+(_[a-z]+)*")
#: Labels whose values are few: types, kinds, builders, outcomes, statuses, names of an API.
BOUNDED = {
    "builder",
    "event_type",
    "kind",
    "operation",
    "outcome",
    "python_version",
    "result",
    "service",
    "status",
    "version",
    "what",
}


def test_the_page_has_each_metric_with_its_labels() -> None:
    """A new metric gets a row, and one that is gone leaves the page."""
    rows = {
        name: tuple(re.findall(r"`(\w+)`", labels))
        for name, labels in _ROW.findall(PAGE.read_text())
    }
    assert rows == {metric.name: metric.labels for metric in CATALOG}


def test_the_catalog_is_complete() -> None:
    """Each metric that the code names is in the catalog, once."""
    named = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert set(named) == set(CATALOG)
    assert len({metric.name for metric in CATALOG}) == len(CATALOG)


def test_names_follow_the_conventions() -> None:
    """Counters end in `_total`, times in `_seconds`; only histograms have buckets."""
    for metric in CATALOG:
        assert _NAME.fullmatch(metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER)
        assert bool(metric.buckets) == (metric.type is MetricType.HISTOGRAM)
        assert metric.name.endswith("_seconds") or metric.type is not MetricType.HISTOGRAM


def test_no_label_is_unbounded() -> None:
    """No tenant, id or message can become a label."""
    assert {label for metric in CATALOG for label in metric.labels} <= BOUNDED
