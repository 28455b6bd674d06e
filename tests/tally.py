"""Metrics of a test: what was counted, and what was set."""

from collections import Counter

from orchestrator.core.metrics import Metric


class Tally:
    """Counts by metric and labels; keeps the last value of a gauge, and all of a histogram."""

    def __init__(self) -> None:
        self.counted = Counter[tuple[Metric, tuple[str, ...]]]()
        self.gauges: dict[tuple[Metric, tuple[str, ...]], float] = {}
        self.observed: list[tuple[Metric, float, tuple[str, ...]]] = []

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        self.counted[metric, labels] += int(amount)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        self.gauges[metric, labels] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        self.observed.append((metric, value, labels))
