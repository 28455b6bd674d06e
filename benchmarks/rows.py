"""The rows of the table: a ratio each, and a goal for it."""

from collections.abc import Mapping

from benchmarks import evaluations
from benchmarks.paths import has_lean_transport
from benchmarks.results import Row

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
            evaluate=evaluations.cpu_of_an_event,
        ),
        Row(
            name="empty-fastapi",
            work="the same",
            against="FastAPI + uvicorn + a pydantic model",
            goal=1.2,
            moonshot=0.9,
            paths=("empty", "fastapi"),
            evaluate=evaluations.cpu_of_an_event,
        ),
        Row(
            name="info",
            work="the same at log level `info`, the default",
            against="bare aiohttp",
            goal=3.0,
            moonshot=2.5,
            paths=("info", "bare"),
            evaluate=evaluations.cpu_of_an_event,
        ),
        Row(
            name="durable",
            work="claim, tier (cached), StartBuild, settle; aioboto3",
            against="bare aiohttp + shared aioboto3: Query + StartBuild, no guarantee",
            goal=1.6,
            moonshot=1.2,
            paths=("durable", "bare-aws"),
            evaluate=evaluations.cpu_of_an_event,
        ),
        Row(
            name="durable-lean",
            work="the same by the opt-in transport",
            against="the same",
            goal=0.9,
            moonshot=0.6,
            paths=("durable-lean", "bare-aws") if has_lean_transport() else (),
            evaluate=evaluations.lean,
        ),
        Row(
            name="duplicate",
            work="duplicate by event key, DynamoDB ledger",
            against="the same",
            goal=0.6,
            moonshot=0.4,
            paths=("duplicate", "bare-aws"),
            evaluate=evaluations.cpu_of_an_event,
        ),
        Row(
            name="queue",
            work="queue to done, one worker process",
            against="the same",
            goal=2.0,
            moonshot=1.4,
            paths=("queue", "bare-aws"),
            evaluate=evaluations.cpu_of_an_event,
        ),
        Row(
            name="workers",
            work="events a second of two processes, each with a free core",
            against="one process",
            goal=1.8,
            at_least=True,
            paths=("two-workers", "durable"),
            evaluate=evaluations.workers,
        ),
        Row(
            name="growth",
            work="10^3 to 10^5 runs; 10 to 10^4 tenants; 10 to 1000 types; a tenant with 5000 runs",
            against="the small case: CPU and AWS requests of an event, and of each view",
            goal=1.1,
            evaluate=evaluations.growth,
        ),
        Row(
            name="sweep",
            work="5000 due jobs, 3 replicas, intake running",
            against="the requests of one job alone, as often",
            goal=1.1,
            evaluate=evaluations.sweep,
        ),
        Row(
            name="tail",
            work="p99 of the empty event, 32 connections",
            against="its own median",
            goal=4.0,
            paths=("empty",),
            evaluate=evaluations.tail,
        ),
        Row(
            name="start",
            work="`serve` to the first 200; `--help` within 0.4 s",
            against="bare aiohttp + aioboto3 to its first 200",
            goal=1.3,
            evaluate=evaluations.start,
        ),
        Row(
            name="memory",
            work="RSS after 100,000 events, at most 110 MB",
            against="after 1,000",
            goal=1.1,
            evaluate=evaluations.memory,
        ),
    )
}
