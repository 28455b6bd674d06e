"""The row `growth`: what an event and a view cost in a small ledger and in a large one.

One server works on both in turn, a block of events each: the stand-in changes the ledger behind
it. With many types it is two servers in turn.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from benchmarks.contestants.ours import EMPTY
from benchmarks.events import event_body
from benchmarks.measure import get_or_post, measure_running, next_number, send
from benchmarks.paths import IN_MEMORY, PATHS, QUIET, Path, serve
from benchmarks.seeds import Original, copied_run, copied_tenant, put_copies
from benchmarks.servers import Failed, Server, StandIn, started

_ONE_TENANT = "tenant-one"
_SMALL, _LARGE = "small", "large"


@attrs.frozen(kw_only=True)
class Growth:
    """What grows: its two sizes, and the lists and views that are measured."""

    name: str
    path: Path
    seed: Callable[[StandIn, Original, int], None]
    sizes: tuple[int, int]
    lists: Sequence[str]
    views: Sequence[str]
    """Views of one item each: cheaper than a list, so a block has more of them."""


def _seed_runs(aws: StandIn, original: Original, count: int) -> None:
    put_copies(aws, original, {**original.names, **original.spread}, kinds=["RUN"], count=count)


def _seed_tenants(aws: StandIn, original: Original, count: int) -> None:
    put_copies(aws, original, original.names, kinds=["TENANT"], count=count)


def _seed_one_tenant(aws: StandIn, original: Original, count: int) -> None:
    names = {**original.names, **original.spread, _ONE_TENANT: lambda _: _ONE_TENANT}
    put_copies(aws, original, names, kinds=["RUN"], count=count)


GROWTHS = (
    Growth(
        name="runs",
        path=PATHS["durable"],
        seed=_seed_runs,
        sizes=(1_000, 100_000),
        lists=("/runs", "/runs?status=succeeded"),
        views=(f"/runs/{copied_run(7)}",),
    ),
    Growth(
        name="tenants",
        path=PATHS["durable"],
        seed=_seed_tenants,
        sizes=(10, 10_000),
        lists=("/tenants?limit=5",),
        views=(f"/tenants/{copied_tenant(7)}",),
    ),
    Growth(
        name="runs of one tenant",
        path=Path(
            contestant=serve("one-tenant", QUIET),
            requests={"DynamoDB.TransactWriteItems": 2},
            body=event_body(EMPTY, tenant=_ONE_TENANT),
        ),
        seed=_seed_one_tenant,
        sizes=(60, 5_000),
        lists=(f"/runs?tenantId={_ONE_TENANT}",),
        views=(f"/tenants/{_ONE_TENANT}",),
    ),
)


@attrs.frozen(kw_only=True)
class Grown:
    """The ratio of what one request costs in the large ledger and in the small one."""

    name: str
    ratios: Sequence[float]
    """One ratio for each pair of blocks."""
    same_requests: bool = True

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def measure_growth(aws: StandIn, *, blocks: int, events: int) -> Iterator[Grown]:
    for growth in GROWTHS:
        yield from _measure(growth, aws, blocks=blocks, events=events)
    yield _measure_types(aws, blocks=blocks, events=4 * events)


def _measure(growth: Growth, aws: StandIn, *, blocks: int, events: int) -> Iterator[Grown]:
    original = Original.of(growth.path, aws)
    for ledger, size in zip((_SMALL, _LARGE), growth.sizes, strict=True):
        aws.ask("UseLedger", name=ledger)
        growth.seed(aws, original, size)
    costs: dict[str, dict[str, list[float]]] = {}
    requests: dict[str, dict[str, Mapping[str, int]]] = {}
    with started(growth.path.contestant, aws_port=aws.port) as server:
        aws.ask("UseLedger", name="")
        send(server, growth.path, aws, first=next_number(), count=events)
        for block in range(2 * blocks):
            # Small, large, large, small: a drift of the machine affects both alike.
            ledger = (_SMALL, _LARGE)[(block + block // 2) % 2]
            aws.ask("UseLedger", name=ledger)
            sample = measure_running(server, growth.path, aws, first=next_number(), count=events)
            costs.setdefault("event", {}).setdefault(ledger, []).append(sample.cpu_us)
            for view in (*growth.lists, *growth.views):
                count = events if view in growth.lists else 5 * events
                cost, asked = _view(server, aws, view, count=count)
                costs.setdefault(view, {}).setdefault(ledger, []).append(cost)
                requests.setdefault(view, {})[ledger] = asked
    for name, by_ledger in costs.items():
        asked_of = requests.get(name, {})
        yield Grown(
            name=f"{growth.name}: {name}",
            ratios=_ratios(by_ledger[_LARGE], by_ledger[_SMALL]),
            same_requests=asked_of.get(_SMALL) == asked_of.get(_LARGE),
        )


def _view(
    server: Server, aws: StandIn, path: str, *, count: int
) -> tuple[float, Mapping[str, int]]:
    """The CPU time (microseconds) of a view, and the requests to AWS of all of them."""
    aws.ask("Counts")
    before = sum(server.process.cpu_s())
    get_or_post(server, path, body="", first=0, count=count)
    server.process.wait_until_idle()
    used = sum(server.process.cpu_s()) - before
    asked: Mapping[str, int] = aws.ask("Counts")["requests"]
    if not asked:
        raise Failed(f"GET {path} asked AWS nothing.")
    return used / count * 1e6, asked


def _measure_types(aws: StandIn, *, blocks: int, events: int) -> Grown:
    """The ratio of the costs of an event with a thousand registered types and with ten."""
    settings = {**IN_MEMORY, **QUIET}
    paths = {
        _SMALL: Path(contestant=serve("ten-types", settings)),
        _LARGE: Path(contestant=serve("many-types", settings, extension="many_types")),
    }
    costs: dict[str, list[float]] = {name: [] for name in paths}
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(started(path.contestant)) for name, path in paths.items()
        }
        for name, server in servers.items():
            send(server, paths[name], aws, first=next_number(), count=events)
        for block in range(2 * blocks):
            name = (_SMALL, _LARGE)[(block + block // 2) % 2]
            sample = measure_running(
                servers[name], paths[name], aws, first=next_number(), count=events
            )
            costs[name].append(sample.cpu_us)
    return Grown(name="types: event", ratios=_ratios(costs[_LARGE], costs[_SMALL]))


def _ratios(large: Sequence[float], small: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(large, small, strict=True)]
