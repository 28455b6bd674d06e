"""One measurement: a fresh process, warmed up, receives a number of events, and the handling of
each is checked."""

import itertools
import statistics
import time
from collections.abc import Mapping

import attrs

from benchmarks.load import Answers, Load, Plan
from benchmarks.paths import Path
from benchmarks.servers import Failed, Server, StandIn, started
from orchestrator.core.ledger.records import RunStatus

#: Requests to AWS beside those of events: a tier is read once, a sweep may begin.
_FURTHER_REQUESTS = 5

#: How long (seconds) a worker may take to empty the queue.
_QUEUE_S = 300.0

_numbers = itertools.count(1, 100_000)


@attrs.frozen(kw_only=True)
class Sample:
    cpu_us: float
    """The server's CPU time for an event."""
    busiest_us: float
    """The CPU time of its busiest process for an event."""
    aws_us: float
    """The AWS stand-in's CPU time for an event; if that is more than the server's, the stand-in is
    the limit."""
    p50_us: float
    p99_us: float


def measure(path: Path, aws: StandIn, *, events: int) -> Sample:
    """Measure one path on a fresh server.

    Raises:
        Failed: an event was not handled, or a request to AWS for it is missing.
    """
    aws.ask("Forget")
    first = next_number()
    send_all = deliver if is_queued(path) else send
    with started(path.contestant, aws_port=aws.port if path.requests else None) as server:
        send_all(server, path, aws, first=first + events, count=max(100, events // 5))
        if path.resends:
            send_all(server, path, aws, first=first, count=events)
        return measure_running(server, path, aws, first=first, count=events)


def next_number() -> int:
    """The first of 100,000 numbers that no event has yet."""
    return next(_numbers)


def is_queued(path: Path) -> bool:
    return "SQS.ReceiveMessage" in path.at_most


def measure_running(server: Server, path: Path, aws: StandIn, *, first: int, count: int) -> Sample:
    """Measure one path on a server that is warm."""
    server.process.wait_until_idle()
    aws.ask("Counts")
    before, aws_before = server.process.cpu_s(), sum(aws.process.cpu_s())
    send_all = deliver if is_queued(path) else send
    answers = send_all(server, path, aws, first=first, count=count)
    server.process.wait_until_idle()
    used = [now - then for now, then in zip(server.process.cpu_s(), before, strict=True)]
    aws_used = sum(aws.process.cpu_s()) - aws_before
    check_requests(path, aws.ask("Counts")["requests"], count)
    if path.resends and answers.replayed != count:
        raise Failed(f"{path.name}: of {count} duplicates {answers.replayed} were recognized.")
    if path.is_ours:
        _read_back(server, path, aws, answers)
    return Sample(
        cpu_us=sum(used) / count * 1e6,
        busiest_us=max(used) / count * 1e6,
        aws_us=aws_used / count * 1e6,
        p50_us=answers.p50_us,
        p99_us=answers.p99_us,
    )


def send(server: Server, path: Path, _: StandIn, *, first: int, count: int) -> Answers:
    """Send events over HTTP; each must be answered 200."""
    return get_or_post(server, "/events", body=path.body, first=first, count=count)


def get_or_post(server: Server, path: str, *, body: str, first: int, count: int) -> Answers:
    plan = Plan(port=server.port, path=path, body=body, first=first, count=count)
    answers = Load(plan).wait()
    if answers.statuses != {"200": count}:
        raise server.process.failed(f"answered {path} with {answers.statuses}")
    return answers


def deliver(server: Server, path: Path, aws: StandIn, *, first: int, count: int) -> Answers:
    """Send events by the queue, and wait until it is empty."""
    aws.ask("SendMessages", bodies=[path.body_of(first + number) for number in range(count)])
    began = time.monotonic()
    while aws.ask("MessagesLeft")["left"]:
        if time.monotonic() > began + _QUEUE_S:
            raise server.process.failed(f"has not emptied its queue in {_QUEUE_S:g} s")
        time.sleep(0.05)
    return Answers(statuses={}, replayed=0, p50_us=0, p99_us=0, locations=())


def check_requests(path: Path, requests: Mapping[str, int], events: int) -> None:
    """Raises Failed unless the requests to AWS are those of the path for each event, with at most
    `_FURTHER_REQUESTS` more of a kind."""
    for name in {*path.requests, *requests}:
        found, least = requests.get(name, 0), path.requests.get(name, 0) * events
        most = least + path.at_most.get(name, 0) * events + _FURTHER_REQUESTS
        if not least <= found <= most:
            raise Failed(f"{path.name}: {found} requests {name} for {events} events, not {least}.")


def _read_back(server: Server, path: Path, aws: StandIn, answers: Answers) -> None:
    """Check that all runs in the ledger have succeeded. A sample of them is read over HTTP; each
    must have its build, if the path starts builds."""
    builds = {build["id"] for build in aws.ask("Builds")["builds"]}
    if statuses := aws.ask("RunStatuses")["statuses"]:
        others = {name for name in RunStatus if name is not RunStatus.SUCCEEDED} & {*statuses}
        if others or not statuses["succeeded"]:
            raise Failed(f"{path.name}: its runs stand at {statuses}.")
    for location in answers.locations:
        run = server.get(location)
        if run["status"] != "succeeded" or (builds and run["job"]["id"] not in builds):
            raise server.process.failed(f"has a run that is not as it should be: {run}")
    if not answers.locations and not is_queued(path):
        raise Failed(f"{path.name}: no answer says where its run is.")


#: How many times a fixed piece of work is measured to find the machine's noise.
_SPINS = 12


@attrs.frozen(kw_only=True)
class Noise:
    spread: float
    """By how much the slowest quarter of equal works exceeds the fastest in CPU time, as a
    fraction."""
    stolen: float
    """The share of the wall time that other processes used: the work itself never waits."""

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
