"""One measurement: a fresh process, warmed up, is sent a number of events, and each is accounted
for."""

import itertools
import statistics
import time
from collections.abc import Mapping

import attrs

from benchmarks.load import Answers, Load, Plan
from benchmarks.paths import Path
from benchmarks.servers import Failed, Server, StandIn, started

#: Requests to AWS that are none of an event's: a tier is read once, a sweep may begin.
_FURTHER_REQUESTS = 5

_numbers = itertools.count(1, 100_000)


@attrs.frozen(kw_only=True)
class Sample:
    cpu_us: float
    """The server's CPU time for an event."""
    busiest_us: float
    """The same of the one of its processes that has used most."""
    p50_us: float
    p99_us: float
    events_per_s: float


def measure(path: Path, aws: StandIn, *, events: int) -> Sample:
    """Raises Failed: an event was not handled, or a request for it was left out."""
    aws.ask("Forget")
    first = next(_numbers)
    with started(path.contestant, aws_port=aws.port if path.requests else None) as server:
        warm_up = max(100, events // 5)
        send(server, path, first=first + events, count=warm_up)
        if path.resends:
            send(server, path, first=first, count=events)
        server.process.wait_until_idle()
        aws.ask("Counts")
        return measure_running(server, path, aws, first=first, count=events)


def measure_running(server: Server, path: Path, aws: StandIn, *, first: int, count: int) -> Sample:
    """The same of a server that is warm; what AWS was asked before is counted, too."""
    before = server.process.cpu_s()
    answers = send(server, path, first=first, count=count)
    server.process.wait_until_idle()
    used = [now - then for now, then in zip(server.process.cpu_s(), before, strict=True)]
    check_requests(path, aws.ask("Counts")["requests"], count)
    if path.resends and answers.replayed != count:
        raise Failed(f"{path.name}: of {count} duplicates {answers.replayed} were recognized.")
    if path.is_ours:
        _read_back(server, path, aws, answers)
    return Sample(
        cpu_us=sum(used) / count * 1e6,
        busiest_us=max(used) / count * 1e6,
        p50_us=answers.p50_us,
        p99_us=answers.p99_us,
        events_per_s=count / answers.seconds,
    )


def send(server: Server, path: Path, *, first: int, count: int) -> Answers:
    plan = Plan(port=server.port, path="/events", body=path.body, first=first, count=count)
    answers = Load(plan).wait()
    check_statuses(server, path, answers, count)
    return answers


def check_statuses(server: Server, path: Path, answers: Answers, count: int) -> None:
    if answers.statuses != {"200": count}:
        raise server.process.failed(f"answered {path.name} with {answers.statuses}")


def check_requests(path: Path, requests: Mapping[str, int], events: int) -> None:
    """Raises Failed unless AWS was asked for each event what the path says, and hardly more."""
    for name in {*path.requests, *requests}:
        found, wanted = requests.get(name, 0), path.requests.get(name, 0) * events
        if not wanted <= found <= wanted + _FURTHER_REQUESTS:
            raise Failed(f"{path.name}: {found} requests {name} for {events} events, not {wanted}.")


def _read_back(server: Server, path: Path, aws: StandIn, answers: Answers) -> None:
    """A sample of the runs is there, and has succeeded; each with a build where there is one."""
    builds = set(aws.ask("BuildIds")["ids"])
    for location in answers.locations:
        run = server.get(location)
        if run["status"] != "succeeded" or (builds and run["job"]["id"] not in builds):
            raise server.process.failed(f"has a run that is not as it should be: {run}")
    if not answers.locations:
        raise Failed(f"{path.name}: no answer says where its run is.")


#: How many rounds of a fixed work tell the machine's noise.
_SPINS = 12


@attrs.frozen(kw_only=True)
class Noise:
    spread: float
    """Between the fastest and the slowest quarter of equal works' CPU times, as a fraction."""
    stolen: float
    """Of the wall time, what others have used: this work waits for nothing."""

    def __str__(self) -> str:
        return (
            f"equal work took up to {self.spread:.0%} more CPU time, and waited for a processor "
            f"{self.stolen:.0%} of its time"
        )


def measure_noise() -> Noise:
    cpu, wall = list[float](), list[float]()
    for _ in range(_SPINS):
        wall_began, cpu_began = time.perf_counter(), time.process_time()
        sum(number * number % 7 for number in range(300_000))
        cpu.append(time.process_time() - cpu_began)
        wall.append(time.perf_counter() - wall_began)
    low, _, high = statistics.quantiles(cpu, n=4)
    return Noise(spread=high / low - 1, stolen=max(0.0, 1 - sum(cpu) / sum(wall)))
