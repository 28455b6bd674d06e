"""How much the orchestrator costs, as ratios within one run: machines differ, ratios less.

Each line compares a path with a bare one of the same shape. Run it before and after a
change: `make bench`. `bench.py N` makes N events a round instead of 300.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Extension, Settings, create_app
from orchestrator.settings import LedgerSettings, Tiers
from orchestrator.testing import InMemoryBuilder, provisioning_event

EVENTS = int(sys.argv[1]) if sys.argv[1:] else 300
ROUNDS = 5

Client = TestClient[web.Request, web.Application]


async def bare(request: web.Request) -> web.Response:
    """What any service must do: read JSON, answer JSON."""
    await request.json()
    return web.json_response({"success": True})


@asynccontextmanager
async def open_client(app: web.Application) -> AsyncIterator[Client]:
    async with TestClient(TestServer(app)) as client:
        yield client


async def measure(post: Callable[[int], Awaitable[None]]) -> float:
    """Microseconds for one call, the median of the rounds."""
    rounds = []
    for round_number in range(ROUNDS):
        started = time.perf_counter()
        for number in range(EVENTS):
            await post(round_number * EVENTS + number)
        rounds.append((time.perf_counter() - started) / EVENTS * 1e6)
    return statistics.median(rounds)


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    bare_app = web.Application()
    bare_app.router.add_post("/events", bare)
    app = create_app(
        Settings(
            ledger=LedgerSettings(backend="memory"),
            tiers=Tiers(backend="static", static={"STANDARD": {"jobIdentifier": "job"}}),
        ),
        extension=Extension(builders={"CODE_BUILD": InMemoryBuilder()}),
    )
    async with contextlib.AsyncExitStack() as stack:
        bare_client = await stack.enter_async_context(open_client(bare_app))
        client = await stack.enter_async_context(open_client(app))

        def poster(to: Client, *, fresh: bool) -> Callable[[int], Awaitable[None]]:
            async def post(number: int) -> None:
                name = str(number if fresh else 0)
                event = provisioning_event(tenant_id=f"tenant-{name}", event_id=f"event-{name}")
                async with to.post("/events", data=json.dumps(event), headers=HEADERS) as answer:
                    await answer.read()
                    if answer.status != 200:
                        sys.exit(f"benchmark: unexpected answer {answer.status}")

            return post

        baseline = await measure(poster(bare_client, fresh=True))
        print(f"{'bare aiohttp route':<28} {baseline:8.0f} µs   1.00")
        for name, fresh in (
            ("provisioning, a new event", True),
            ("provisioning, a duplicate", False),
        ):
            cost = await measure(poster(client, fresh=fresh))
            print(f"{name:<28} {cost:8.0f} µs   {cost / baseline:.2f}")


HEADERS = {"Content-Type": "application/json"}

if __name__ == "__main__":
    asyncio.run(main())
