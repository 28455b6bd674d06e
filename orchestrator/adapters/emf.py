"""The metrics as CloudWatch's embedded metric format: lines in the log of a Lambda function.

CloudWatch makes metrics of them, so that no request is sent for that (CloudWatch user guide,
Embedded metric format specification). A line has the metrics of one set of labels, its dimensions;
the values are those since the last lines.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from orchestrator.core.metrics import Metric, MetricType

#: A metric's value may be an array of so many numbers (specification, Target members).
_MOST_VALUES = 100

_Labels = tuple[tuple[str, str], ...]


class EmfMetrics:
    """Collects what is measured during an invocation. A metric without a value is in no line."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._collected: dict[_Labels, dict[Metric, list[float]]] = {}

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        values = self._values(metric, labels)
        values[:] = [sum(values) + amount]

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        self._values(metric, labels)[:] = [value]

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        self._values(metric, labels).append(value)

    def take_lines(self, now: datetime) -> Iterator[str]:
        """The lines of what was measured since the last call."""
        collected, self._collected = self._collected, {}
        for labels, measured in collected.items():
            for start in range(0, max(map(len, measured.values())), _MOST_VALUES):
                values = {
                    metric: some
                    for metric, every in measured.items()
                    if (some := every[start : start + _MOST_VALUES])
                }
                yield json.dumps(self._line(labels, values, now))

    def _values(self, metric: Metric, labels: tuple[str, ...]) -> list[float]:
        named = tuple(zip(metric.labels, labels, strict=True))
        return self._collected.setdefault(named, {}).setdefault(metric, [])

    def _line(
        self, labels: _Labels, values: dict[Metric, list[float]], now: datetime
    ) -> dict[str, Any]:
        metrics = [{"Name": metric.name, "Unit": _unit(metric)} for metric in values]
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [[name for name, _ in labels]],
            "Metrics": metrics,
        }
        return {
            "_aws": {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]},
            **dict(labels),
            **{
                metric.name: some[0] if metric.type is not MetricType.HISTOGRAM else some
                for metric, some in values.items()
            },
        }


def _unit(metric: Metric) -> str:
    return "Seconds" if metric.name.endswith("_seconds") else "Count"
