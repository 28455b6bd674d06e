"""The rows of the table: each is a ratio of two measurements of one round, and a goal for it."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from benchmarks.growth import measure_growth
from benchmarks.load import ROOT
from benchmarks.measure import Sample, measure, next_number, send
from benchmarks.paths import PATHS, Path, has_lean_transport
from benchmarks.servers import StandIn, started
from benchmarks.sweeping import measure_sweep


@attrs.frozen(kw_only=True)
class Result:
    """What a row came to. A ratio that is None could not be measured, and does not hold."""

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
    """Of each path, one of each round."""

    def events(self, path: Path) -> int:
        if path.requests:
            return 1500 if self.is_full else 300
        return 8000 if self.is_full else 2000

    def measure(self, names: Sequence[str]) -> Iterator[str]:
        """Measure these paths, interleaved, each round the other way round; tells what it does."""
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
    """What is measured in rounds for it."""
    evaluate: Callable[["Row", Bench], Result]
    at_least: bool = False
    """The goal is the least, not the most."""
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


def _cpu_of_an_event(row: Row, bench: Bench) -> Result:
    ours, other = (bench.samples[name] for name in row.paths)
    ratios = [our.cpu_us / their.cpu_us for our, their in zip(ours, other, strict=True)]
    our_us, other_us = (statistics.median(one.cpu_us for one in some) for some in (ours, other))
    return row.result(ratios, note=f"{our_us:,.0f} µs, {other_us:,.0f} µs")


def _workers(row: Row, bench: Bench) -> Result:
    """Events a second on two free cores: as many as the busier process has time for."""
    two, one = (bench.samples[name] for name in row.paths)
    ratios = [single.cpu_us / both.busiest_us for both, single in zip(two, one, strict=True)]
    shares = [both.busiest_us / both.cpu_us for both in two]
    share = statistics.median(shares)
    return row.result(ratios, note=f"the busier process did {share:.0%} of the work")


def _lean(row: Row, bench: Bench) -> Result:
    if not has_lean_transport():
        return row.not_measured("not available: there is no setting aws.transport")
    return _cpu_of_an_event(row, bench)


def _tail(row: Row, bench: Bench) -> Result:
    samples = bench.samples["empty"]
    p50, p99 = (
        statistics.median(one) / 1000
        for one in ([each.p50_us for each in samples], [each.p99_us for each in samples])
    )
    note = f"p99 {p99:.1f} ms, median {p50:.1f} ms"
    return row.result([one.p99_us / one.p50_us for one in samples], note=note)


#: What `--help` may take, in seconds.
_HELP_S = 0.4


def _start(row: Row, bench: Bench) -> Result:
    """Seconds from the start of a process to its first event that is handled."""
    ours, other, helps = list[float](), list[float](), list[float]()
    for number in range(bench.rounds + 1):
        for name, times in (("durable", ours), ("bare-aws", other)):
            times.append(_first_answer_s(PATHS[name], bench, number))
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "orchestrator", "--help"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        helps.append(time.perf_counter() - began)
    # The first start finds nothing in the file system's cache.
    ratios = [our / their for our, their in zip(ours[1:], other[1:], strict=True)]
    our_s, other_s, help_s = (statistics.median(one[1:]) for one in (ours, other, helps))
    return row.result(
        ratios,
        also=help_s <= _HELP_S,
        note=f"{our_s:.2f} s, {other_s:.2f} s; --help {help_s:.2f} s (goal {_HELP_S} s)",
    )


def _first_answer_s(path: Path, bench: Bench, number: int) -> float:
    bench.aws.ask("Forget")
    began = time.perf_counter()
    with started(path.contestant, aws_port=bench.aws.port) as server:
        server.post("/events", path.body_of(number))
        return time.perf_counter() - began


def _growth(row: Row, bench: Bench) -> Result:
    """The worst of all that grows; all are measured in blocks of their own."""
    grown = list(
        measure_growth(bench.aws, blocks=bench.rounds, events=300 if bench.is_full else 100)
    )
    worst = max(grown, key=lambda one: one.ratio)
    uneven = [one.name for one in grown if not one.same_requests]
    return row.result(
        [worst.ratio],
        also=not uneven,
        note=f"worst of {len(grown)}: {worst.name}; "
        + (f"more AWS requests: {', '.join(uneven)}" if uneven else "AWS requests constant"),
    )


#: What an event may cost while there is a sweep, in terms of what it costs without one.
_INTAKE = 1.2


def _sweep(row: Row, bench: Bench) -> Result:
    jobs, count, rounds = (5000, 9000, 3) if bench.is_full else (1000, 2400, 1)
    swept = [measure_sweep(bench.aws, jobs=jobs, events=count) for _ in range(rounds)]
    intake = statistics.median(one.intake for one in swept)
    looked_at_once = all(set(one.looks) == {1} for one in swept)
    alone, events, both = swept[0].seconds
    notes = (
        (
            f"{jobs} jobs, {'each' if looked_at_once else 'not each'} looked at once, by "
            f"{swept[0].calls} BatchGetBuilds"
        ),
        f"intake's CPU {intake:.2f} x (goal {_INTAKE})",
        f"{alone:.1f} s sweep, {events:.1f} s events, {both:.1f} s at once",
    )
    return row.result(
        [one.requests for one in swept],
        also=intake <= _INTAKE and looked_at_once,
        note="; ".join(notes),
    )


#: What a process may hold, in bytes.
_RSS = 110e6


def _memory(row: Row, bench: Bench) -> Result:
    """One process through many events; the stand-in forgets what is over, so that it lasts."""
    path, block = PATHS["durable"], 1000
    sizes = list[int]()
    bench.aws.ask("Forget")
    with started(path.contestant, aws_port=bench.aws.port) as server:
        for _ in range(100 if bench.is_full else 4):
            send(server, path, bench.aws, first=next_number(), count=block)
            server.process.wait_until_idle()
            sizes.append(server.process.rss_bytes())
            bench.aws.ask("Forget")
    return row.result(
        [sizes[-1] / sizes[0]],
        also=sizes[-1] <= _RSS,
        note=f"{sizes[-1] / 1e6:.0f} MB after {block * len(sizes):,} events, {sizes[0] / 1e6:.0f} "
        f"MB after {block:,} (goal {_RSS / 1e6:.0f} MB)",
    )


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row(
            name="empty",
            work="empty event through the whole pipeline, in-memory ledger",
            against="bare aiohttp returning the same body",
            goal=2.5,
            moonshot=2.0,
            paths=("empty", "bare"),
            evaluate=_cpu_of_an_event,
        ),
        Row(
            name="empty-fastapi",
            work="the same",
            against="FastAPI + uvicorn + a pydantic model",
            goal=1.2,
            moonshot=0.9,
            paths=("empty", "fastapi"),
            evaluate=_cpu_of_an_event,
        ),
        Row(
            name="info",
            work="the same at log level `info`, the default",
            against="bare aiohttp",
            goal=3.0,
            moonshot=2.5,
            paths=("info", "bare"),
            evaluate=_cpu_of_an_event,
        ),
        Row(
            name="durable",
            work="claim, tier (cached), StartBuild, settle; aioboto3",
            against="bare aiohttp + shared aioboto3: Query + StartBuild, no guarantee",
            goal=1.6,
            moonshot=1.2,
            paths=("durable", "bare-aws"),
            evaluate=_cpu_of_an_event,
        ),
        Row(
            name="durable-lean",
            work="the same by the opt-in transport",
            against="the same",
            goal=0.9,
            moonshot=0.6,
            paths=("durable-lean", "bare-aws") if has_lean_transport() else (),
            evaluate=_lean,
        ),
        Row(
            name="duplicate",
            work="duplicate by event key, DynamoDB ledger",
            against="the same",
            goal=0.6,
            moonshot=0.4,
            paths=("duplicate", "bare-aws"),
            evaluate=_cpu_of_an_event,
        ),
        Row(
            name="queue",
            work="queue to done, one worker process",
            against="the same",
            goal=2.0,
            moonshot=1.4,
            paths=("queue", "bare-aws"),
            evaluate=_cpu_of_an_event,
        ),
        Row(
            name="workers",
            work="events a second of two processes, each with a free core",
            against="one process",
            goal=1.8,
            at_least=True,
            paths=("two-workers", "durable"),
            evaluate=_workers,
        ),
        Row(
            name="growth",
            work="10^3 to 10^5 runs; 10 to 10^4 tenants; 10 to 1000 types; a tenant with 5000 runs",
            against="the small case: CPU and AWS requests of an event, and of each view",
            goal=1.1,
            evaluate=_growth,
        ),
        Row(
            name="sweep",
            work="5000 due jobs, 3 replicas, intake running",
            against="the requests of one job alone, as often",
            goal=1.1,
            evaluate=_sweep,
        ),
        Row(
            name="tail",
            work="p99 of the empty event, 32 connections",
            against="its own median",
            goal=4.0,
            paths=("empty",),
            evaluate=_tail,
        ),
        Row(
            name="start",
            work="`serve` to the first 200; `--help` within 0.4 s",
            against="bare aiohttp + aioboto3 to its first 200",
            goal=1.3,
            evaluate=_start,
        ),
        Row(
            name="memory",
            work="RSS after 100,000 events, at most 110 MB",
            against="after 1,000",
            goal=1.1,
            evaluate=_memory,
        ),
    )
}
