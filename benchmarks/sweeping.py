"""The row `sweep`: many jobs are due at once, in three replicas that take events meanwhile."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from benchmarks.load import Load, Plan
from benchmarks.measure import next_number
from benchmarks.paths import PATHS, QUIET, Path, serve
from benchmarks.seeds import Original, put_copies
from benchmarks.servers import Failed, Server, StandIn, replicas

_REPLICAS = 3
_KINDS = ("RUN", "OP", "TENANT", "JOB")
#: How long (seconds) a sweep may take after it was to begin.
_LONGEST_S = 300.0


@attrs.frozen(kw_only=True)
class _Swept:
    """A sweep of all that was due, and the events that came meanwhile."""

    cpu_s: float
    requests: Mapping[str, int]
    looks: Mapping[str, int]
    """How often each build was asked about."""


@attrs.frozen(kw_only=True)
class Sweeping:
    """Sweeps of many jobs, compared with that of a single one, and with no sweep at all."""

    requests: float
    """In terms of the requests that as many single jobs would take."""
    intake: float
    """An event's CPU time while there is a sweep, in terms of what it is without one."""
    looks: Mapping[int, int]
    """How many jobs were looked at so often."""
    calls: int
    """of BatchGetBuilds."""
    seconds: tuple[float, float, float]
    """CPU time of the sweep alone, of the events alone, and of both at once."""


def measure_sweep(aws: StandIn, *, jobs: int, events: int, every_s: int) -> Sweeping:
    """Each replica sweeps `every_s` after its start; its second sweep must not come before all is
    done, since a job is due again by then."""
    original = Original.of(PATHS["durable"], aws)
    one = _sweep(aws, original, jobs=1, replicas_=1, every_s=10)
    idle = _sweep(aws, original, events=events, every_s=3600)
    alone = _sweep(aws, original, jobs=jobs, every_s=every_s)
    both = _sweep(aws, original, jobs=jobs, events=events, every_s=every_s)
    return Sweeping(
        requests=sum(alone.requests.values()) / (jobs * sum(one.requests.values())),
        intake=(both.cpu_s - alone.cpu_s) / idle.cpu_s,
        looks=Counter([*alone.looks.values(), *both.looks.values()]),
        calls=alone.requests["CodeBuild.BatchGetBuilds"],
        seconds=(alone.cpu_s, idle.cpu_s, both.cpu_s),
    )


def _sweep(
    aws: StandIn,
    original: Original,
    *,
    every_s: int,
    jobs: int = 0,
    events: int = 0,
    replicas_: int = _REPLICAS,
) -> _Swept:
    aws.ask("Forget")
    if jobs:
        names = {**original.names, **original.due}
        put_copies(aws, original, names, kinds=_KINDS, count=jobs)
    settings = {**QUIET, "operations": {"reconcile_every_s": every_s}}
    path = Path(contestant=serve("sweep", settings))
    with replicas(path.contestant, replicas_, aws_port=aws.port) as servers:
        _send(servers, path, each=30)
        if aws.ask("Looks")["looks"]:
            raise Failed(f"sweep: the machine is too slow to start {replicas_} in {every_s} s.")
        before = _cpu_s(servers)
        aws.ask("Counts")
        _wait_for_looks(aws, 1 if jobs else 0)
        if events:
            _send(servers, path, each=events // replicas_)
        _wait_for_looks(aws, jobs)
        for server in servers:
            server.process.wait_until_idle()
        return _Swept(
            cpu_s=_cpu_s(servers) - before,
            requests=aws.ask("Counts")["requests"],
            looks=aws.ask("Looks")["looks"],
        )


def _send(servers: Sequence[Server], path: Path, *, each: int) -> None:
    """As many events to each replica, at the same time."""
    loads = [
        Load(
            Plan(
                port=server.port,
                path="/events",
                body=path.body,
                first=next_number(),
                count=each,
                connections=8,
            )
        )
        for server in servers
    ]
    for server, load in zip(servers, loads, strict=True):
        answers = load.wait()
        if answers.statuses != {"200": each}:
            raise server.process.failed(f"answered with {answers.statuses}")


def _wait_for_looks(aws: StandIn, jobs: int) -> None:
    until = time.monotonic() + _LONGEST_S
    while aws.ask("LookedAt")["builds"] < jobs:
        if time.monotonic() > until:
            raise Failed(f"sweep: {jobs} jobs are not looked at in {_LONGEST_S:g} s.")
        time.sleep(0.1)


def _cpu_s(servers: Sequence[Server]) -> float:
    return sum(sum(server.process.cpu_s()) for server in servers)
