"""Metrics in CloudWatch's embedded metric format, as its specification has it."""

import json
from datetime import UTC, datetime
from typing import Any

from orchestrator.adapters.emf import EmfMetrics
from orchestrator.core.metrics import (
    EVENT_DURATION,
    EVENTS,
    LEDGER_CONFLICTS,
    OPERATION_OLDEST_AGE,
    OPERATIONS_OPEN,
)

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def lines(metrics: EmfMetrics) -> list[dict[str, Any]]:
    return [json.loads(line) for line in metrics.take_lines(NOW)]


def test_a_line_has_the_metrics_of_one_set_of_labels() -> None:
    """Counts are summed up, of a gauge the last value counts, a histogram has all values."""
    metrics = EmfMetrics("saas")
    metrics.set(OPERATIONS_OPEN, 3, "provisioning")
    metrics.set(OPERATIONS_OPEN, 2, "provisioning")
    metrics.set(OPERATION_OLDEST_AGE, 60.5, "provisioning")
    metrics.add(EVENTS, "ORDER", "succeeded")
    metrics.add(EVENTS, "ORDER", "succeeded")
    metrics.observe(EVENT_DURATION, 0.25, "ORDER")
    metrics.observe(EVENT_DURATION, 0.5, "ORDER")
    first, second, third = lines(metrics)
    assert first == {
        "_aws": {
            "Timestamp": 1_795_165_200_000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "saas",
                    "Dimensions": [["kind"]],
                    "Metrics": [
                        {"Name": "orchestrator_operations_open", "Unit": "Count"},
                        {"Name": "orchestrator_operation_oldest_age_seconds", "Unit": "Seconds"},
                    ],
                }
            ],
        },
        "kind": "provisioning",
        "orchestrator_operations_open": 2,
        "orchestrator_operation_oldest_age_seconds": 60.5,
    }
    assert (second["event_type"], second["outcome"]) == ("ORDER", "succeeded")
    assert second["orchestrator_events_total"] == 2
    assert third["orchestrator_event_duration_seconds"] == [0.25, 0.5]


def test_each_value_is_written_once() -> None:
    """The next invocation's lines have its own values alone."""
    metrics = EmfMetrics("saas")
    metrics.add(LEDGER_CONFLICTS)
    (line,) = lines(metrics)
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [[]]
    assert lines(metrics) == []
    metrics.add(LEDGER_CONFLICTS)
    (line,) = lines(metrics)
    assert line["orchestrator_ledger_conflicts_total"] == 1


def test_more_values_than_a_line_may_have_are_several_lines() -> None:
    """An array has at most 100 numbers; none is lost."""
    metrics = EmfMetrics("saas")
    for number in range(250):
        metrics.observe(EVENT_DURATION, number, "ORDER")
    values = [line["orchestrator_event_duration_seconds"] for line in lines(metrics)]
    assert list(map(len, values)) == [100, 100, 50]
    assert [value for some in values for value in some] == list(range(250))
