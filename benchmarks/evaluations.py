"""Evaluates each row from the samples, or by a measurement of its own."""

import statistics
import subprocess
import sys
import time

from benchmarks.growth import measure_growth
from benchmarks.load import ROOT
from benchmarks.measure import next_number, send
from benchmarks.paths import PATHS, Path, has_lean_transport
from benchmarks.results import Bench, Result, Row
from benchmarks.servers import started
from benchmarks.sweeping import measure_sweep


def cpu_of_an_event(row: Row, bench: Bench) -> Result:
    ours, other = (bench.samples[name] for name in row.paths)
    ratios = [our.cpu_us / their.cpu_us for our, their in zip(ours, other, strict=True)]
    our_us, other_us = (statistics.median(one.cpu_us for one in some) for some in (ours, other))
    note = f"{our_us:,.0f} µs, {other_us:,.0f} µs"
    if PATHS[row.paths[0]].requests:
        note += f"; AWS stand-in {statistics.median(one.aws_us for one in ours):,.0f} µs"
    return row.result(ratios, note=note)


def workers(row: Row, bench: Bench) -> Result:
    """Events a second on two free cores: as many as the busier process has time for."""
    two, one = (bench.samples[name] for name in row.paths)
    ratios = [single.cpu_us / both.busiest_us for both, single in zip(two, one, strict=True)]
    shares = [both.busiest_us / both.cpu_us for both in two]
    share = statistics.median(shares)
    return row.result(ratios, note=f"the busier process did {share:.0%} of the work")


def lean(row: Row, bench: Bench) -> Result:
    if not has_lean_transport():
        return row.not_measured("not available: there is no setting aws.transport")
    return cpu_of_an_event(row, bench)


def tail(row: Row, bench: Bench) -> Result:
    samples = bench.samples["empty"]
    p50, p99 = (
        statistics.median(one) / 1000
        for one in ([each.p50_us for each in samples], [each.p99_us for each in samples])
    )
    note = f"p99 {p99:.1f} ms, median {p50:.1f} ms"
    return row.result([one.p99_us / one.p50_us for one in samples], note=note)


#: The goal for the duration of `--help`, in seconds.
_HELP_S = 0.4


def start(row: Row, bench: Bench) -> Result:
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
    # Without the first start, which finds an empty file system cache.
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


def growth(row: Row, bench: Bench) -> Result:
    """The largest growth of all."""
    blocks, events = (2 * bench.rounds, 300) if bench.is_full else (bench.rounds + 1, 80)
    grown = list(measure_growth(bench.aws, blocks=blocks, events=events))
    worst = max(grown, key=lambda one: one.ratio)
    uneven = [one.name for one in grown if not one.same_requests]
    return row.result(
        worst.ratios,
        also=not uneven,
        note=f"worst of {len(grown)}: {worst.name}; "
        + (f"more AWS requests: {', '.join(uneven)}" if uneven else "AWS requests constant"),
    )


#: The goal for the ratio of an event's CPU time during a sweep and without one.
_INTAKE = 1.2


def sweep(row: Row, bench: Bench) -> Result:
    jobs, count, rounds = (5000, 9000, 3) if bench.is_full else (500, 1200, 1)
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


#: The goal for the resident memory of a process, in bytes.
_RSS = 110e6


def memory(row: Row, bench: Bench) -> Result:
    """One process through many events; the stand-in is emptied after each block, so that its own
    memory suffices."""
    path, block = PATHS["durable"], 1000
    sizes = list[int]()
    bench.aws.ask("Forget")
    with started(path.contestant, aws_port=bench.aws.port) as server:
        for _ in range(100 if bench.is_full else 3):
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
