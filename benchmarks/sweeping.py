"""The row `sweep`: many jobs are due at once, in three replicas that take events meanwhile."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs

from benchmarks.load import Load, Plan
from benchmarks.measure import next_number
from benchmarks.paths import PATHS, QUIET, Path, serve
from benchmarks.seeds import Original, put_copies
from benchmarks.servers import Failed, Server, StandIn, replicas

_REPLICAS = 3
_KINDS = ("RUN", "OP", "TENANT", "JOB")
_PATH = Path(contestant=serve("sweep", QUIET))
#: How long (seconds) sweeps may take until all is done.
_LONGEST_S = 300.0


@attrs.frozen(kw_only=True)
class _Swept:
    """A sweep of all that was due, and the events that came meanwhile."""

    cpu_s: float
    requests: Mapping[str, int]
    looks: Mapping[str, int]
    """How often each build was described."""


@attrs.frozen(kw_only=True)
class Sweeping:
    """Sweeps of many jobs, compared with that of a single one, and with no sweep at all."""

    requests: float
    """The requests to AWS, as a share of those that as many single jobs would take."""
    intake: float
    """The ratio of an event's CPU time during a sweep and without one."""
    looks: Mapping[int, int]
    """The number of jobs by how often each was described."""
    calls: int
    """The number of BatchGetBuilds requests of the sweep alone."""
    seconds: tuple[float, float, float]
    """CPU time of the sweep alone, of the events alone, and of both at once."""


def measure_sweep(aws: StandIn, *, jobs: int, events: int) -> Sweeping:
    original = Original.of(PATHS["durable"], aws)
    one = _sweep(aws, original, jobs=1, replicas_=1)
    idle = _sweep(aws, original, events=events)
    alone = _sweep(aws, original, jobs=jobs)
    both = _sweep(aws, original, jobs=jobs, events=events)
    return Sweeping(
        requests=sum(alone.requests.values()) / (jobs * sum(one.requests.values())),
        intake=(both.cpu_s - alone.cpu_s) / idle.cpu_s,
        looks=Counter([*alone.looks.values(), *both.looks.values()]),
        calls=alone.requests["CodeBuild.BatchGetBuilds"],
        seconds=(alone.cpu_s, idle.cpu_s, both.cpu_s),
    )


def _sweep(
    aws: StandIn, original: Original, *, jobs: int = 0, events: int = 0, replicas_: int = _REPLICAS
) -> _Swept:
    aws.ask("Forget")
    if jobs:
        names = {**original.names, **original.due}
        put_copies(aws, original, names, kinds=_KINDS, count=jobs)
    with replicas(_PATH.contestant, replicas_, aws_port=aws.port) as servers:
        _send(servers, each=30)
        before = _cpu_s(servers)
        aws.ask("Counts")
        with ThreadPoolExecutor() as threads:
            sweeps = threads.submit(_sweep_all, servers, aws, jobs)
            if events:
                _send(servers, each=events // replicas_)
            sweeps.result()
        for server in servers:
            server.process.wait_until_idle()
        return _Swept(
            cpu_s=_cpu_s(servers) - before,
            requests=aws.ask("Counts")["requests"],
            looks=aws.ask("Looks")["looks"],
        )


def _sweep_all(servers: Sequence[Server], aws: StandIn, jobs: int) -> None:
    """Have all replicas sweep at the same time, as a schedule does, until every job was described.
    A described job isn't due again for a day."""
    until = time.monotonic() + _LONGEST_S
    while aws.ask("LookedAt")["builds"] < jobs:
        if time.monotonic() > until:
            raise Failed(f"sweep: {jobs} jobs were not described in {_LONGEST_S:g} s.")
        _post(servers, "/events/RECONCILE", "{}", each=1, connections=1)


def _send(servers: Sequence[Server], *, each: int) -> None:
    _post(servers, "/events", _PATH.body, each=each, connections=8)


def _post(servers: Sequence[Server], path: str, body: str, *, each: int, connections: int) -> None:
    """Send the same number of events to each replica, at the same time."""
    plans = [
        Plan(
            port=server.port,
            path=path,
            body=body,
            first=next_number(),
            count=each,
            connections=connections,
        )
        for server in servers
    ]
    for server, load in zip(servers, [Load(plan) for plan in plans], strict=True):
        answers = load.wait()
        if answers.statuses != {"200": each}:
            raise server.process.failed(f"answered {path} with {answers.statuses}")


def _cpu_s(servers: Sequence[Server]) -> float:
    return sum(sum(server.process.cpu_s()) for server in servers)
