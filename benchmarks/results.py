"""A row of the table, its result, and what all rows are measured with."""

import statistics
from collections.abc import Callable, Iterator, Sequence

import attrs

from benchmarks.measure import Sample, measure
from benchmarks.paths import PATHS, Path
from benchmarks.servers import StandIn


@attrs.frozen(kw_only=True)
class Result:
    """The result of a row. A ratio that is None could not be measured, and does not hold."""

    name: str
    ratio: float | None
    goal: float
    holds: bool
    low: float | None = None
    high: float | None = None
    """The rounds' lowest and highest ratio."""
    note: str = ""


@attrs.frozen(kw_only=True)
class Bench:
    """How much is measured, and the AWS that it is measured with."""

    aws: StandIn
    rounds: int
    is_full: bool
    samples: dict[str, list[Sample]] = attrs.field(factory=dict)
    """The samples of each path, one for each round."""

    def events(self, path: Path) -> int:
        if path.requests:
            return 1500 if self.is_full else 240
        return 8000 if self.is_full else 2000

    def measure(self, names: Sequence[str]) -> Iterator[str]:
        """Measure these paths, interleaved, in alternating order; yields a line on each step."""
        self.samples.update({name: [] for name in names})
        for number in range(self.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                yield f"round {number + 1} of {self.rounds}: {name}"
                path = PATHS[name]
                self.samples[name].append(measure(path, self.aws, events=self.events(path)))


@attrs.frozen(kw_only=True)
class Row:
    name: str
    work: str
    against: str
    goal: float
    paths: Sequence[str] = ()
    """The names of the paths that are measured in rounds for it."""
    evaluate: Callable[["Row", Bench], Result]
    at_least: bool = False
    """The goal is a minimum, not a maximum."""
    moonshot: float | None = None

    def result(self, ratios: Sequence[float], *, also: bool = True, note: str = "") -> Result:
        """The median of the rounds' ratios; it holds if `also` does."""
        ratio = statistics.median(ratios)
        reached = ratio >= self.goal if self.at_least else ratio <= self.goal
        return Result(
            name=self.name,
            ratio=round(ratio, 3),
            goal=self.goal,
            holds=reached and also,
            low=round(min(ratios), 3),
            high=round(max(ratios), 3),
            note=note,
        )

    def not_measured(self, why: str) -> Result:
        return Result(name=self.name, ratio=None, goal=self.goal, holds=False, note=why)
