"""Service processes over one embedded AWS, and gates before it that hold single requests.

    sender ──► process ──► gate ──► DynamoDB, CodeBuild
                            ├── hold before: nothing is done yet; let it through late, or drop it
                            ├── hold the answer: the request took effect, unknown to the process
                            └── lose the answer

A process is `orchestrator serve`, or, run as a module, the same app by a clock that is ahead:
what a process finds that comes long after one that died.
"""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiohttp
import attrs
from aiohttp import web

from orchestrator import create_app
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.embedded import SAMPLE_TIERS, Build, EmbeddedAWS, hang_up, open_embedded_aws
from orchestrator.logs import configure_logs
from orchestrator.server import run_workers
from orchestrator.settings import child_environment, load_settings
from tests import zygote
from tests.aws import aws_session
from tests.transport import TRANSPORT

HOST = "127.0.0.1"
TIER_TABLE = "tier-details"
LEDGER_TABLE = "orchestrator-ledger"
#: In seconds: whatever takes longer has failed.
PATIENCE_S = 40.0
_POLL_S = 0.1

Found = TypeVar("Found")


async def until(ask: Callable[[], Awaitable[Found]], *, patience_s: float = PATIENCE_S) -> Found:
    """The result of `ask`, once it isn't false."""
    async with asyncio.timeout(patience_s):
        while not (found := await ask()):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)  # another process can't set an event of this one
    return found


@attrs.frozen
class Call:
    """One request to AWS."""

    action: str
    text: str

    def names(self, tenant_id: str) -> bool:
        """The tenant's id is in it, within JSON within JSON."""
        return f'\\"{tenant_id}\\"' in self.text


Matches = Callable[[Call], bool]


def action(name: str, *texts: str, tenant: str | None = None) -> Matches:
    """Requests of an action, with certain texts in them, that are about a tenant."""

    def matches(call: Call) -> bool:
        is_about = tenant is None or call.names(tenant)
        return call.action == name and is_about and all(text in call.text for text in texts)

    return matches


def claim_of(tenant: str) -> Matches:
    """The first write about the tenant, if it is the next one to be sent."""
    return action("TransactWriteItems", tenant=tenant)


def settle_of(tenant: str) -> Matches:
    """The write that ends the tenant's run as succeeded."""
    return action("TransactWriteItems", r"\"status\":\"succeeded\"", tenant=tenant)


def start_of(tenant: str) -> Matches:
    return action("StartBuild", tenant=tenant)


def tier_query() -> Matches:
    return action("Query", TIER_TABLE)


@attrs.define(eq=False)
class Stop:
    """One request that is held, and what follows."""

    matches: Matches
    place: Literal["before", "after"]
    reached: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _decision: "asyncio.Future[bool]" = attrs.field(init=False, factory=asyncio.Future)
    _status: "asyncio.Future[int | None]" = attrs.field(init=False, factory=asyncio.Future)

    async def release(self) -> int | None:
        """Release it; returns AWS's status, or None if the request was dropped."""
        self._decide(True)
        return await self._status

    def drop(self) -> None:
        """Close the connection without an answer."""
        self._decide(False)

    def _decide(self, is_released: bool) -> None:
        if not self._decision.done():
            self._decision.set_result(is_released)

    async def hold(self) -> bool:
        self.reached.set()
        return await self._decision

    def note(self, status: int | None) -> None:
        if not self._status.done():
            self._status.set_result(status)


@attrs.frozen
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@attrs.define
class Gate:
    """A proxy before one of AWS's services, which holds the requests that a test selects."""

    target: str
    http: aiohttp.ClientSession
    calls: list[Call] = attrs.field(init=False, factory=list)
    url: str = attrs.field(init=False, default="")
    _stops: list[Stop] = attrs.field(init=False, factory=list)
    _all_stops: list[Stop] = attrs.field(init=False, factory=list)

    def hold_before(self, matches: Matches) -> Stop:
        """Hold the next request that matches before it arrives."""
        return self._add(Stop(matches, "before"))

    def hold_answer(self, matches: Matches) -> Stop:
        """Hold the answer to the next request that matches, after it took effect."""
        return self._add(Stop(matches, "after"))

    def lose_answers(self, matches: Matches, *, times: int) -> list[Stop]:
        """The next requests that match take effect, and their answers are lost."""
        stops = [self.hold_answer(matches) for _ in range(times)]
        for stop in stops:
            stop.drop()
        return stops

    def count(self, matches: Matches) -> int:
        return sum(map(matches, self.calls))

    def _add(self, stop: Stop) -> Stop:
        self._stops.append(stop)
        self._all_stops.append(stop)
        return stop

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = Call(request.headers["X-Amz-Target"].rpartition(".")[2], body.decode())
        self.calls.append(call)
        stop = next((stop for stop in self._stops if stop.matches(call)), None)
        if stop is not None:
            self._stops.remove(stop)
            if stop.place == "before" and not await stop.hold():
                stop.note(None)
                return hang_up(request)
        answer = await self._forward(request, body)
        if stop is not None:
            if stop.place == "after" and not await stop.hold():
                stop.note(answer.status)
                return hang_up(request)
            stop.note(answer.status)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _forward(self, request: web.Request, body: bytes) -> _Answer:
        headers = {k: v for k, v in request.headers.items() if k not in ("Host", "Content-Length")}
        async with self.http.post(self.target, data=body, headers=headers) as response:
            kept = {k: v for k, v in response.headers.items() if k.lower().startswith("x-amz")}
            kept["Content-Type"] = response.headers.get("Content-Type", "")
            return _Answer(response.status, kept, await response.read())

    async def open(self, _app: web.Application) -> None:
        """Release all that is held, at the end of the test."""
        for stop in self._all_stops:
            stop.drop()


@asynccontextmanager
async def open_gate(target: str) -> AsyncIterator[Gate]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        gate = Gate(target, http)
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/", gate.handle)
        app.on_shutdown.append(gate.open)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, 0).start()
            gate.url = f"http://{HOST}:{runner.addresses[0][1]}"
            yield gate
        finally:
            await runner.cleanup()


@attrs.frozen
class Process:
    """A service process."""

    url: str
    child: zygote.Child

    async def kill(self) -> None:
        """kill -9: the process ends between two instructions."""
        with suppress(ProcessLookupError):
            self.child.kill()
        await self.child.wait()

    def pause(self) -> None:
        self.child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        self.child.terminate()


@attrs.frozen(kw_only=True)
class Answer:
    """What a sender receives; status None: the connection is lost without an answer."""

    status: int | None
    detail: str = ""
    run: str | None = None
    replayed: bool = False


@attrs.define
class BuildClock:
    """CodeBuild's time, which a test may set ahead."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@attrs.define
class World:
    """The embedded AWS behind its gates, and the processes of one test."""

    aws: EmbeddedAWS
    dynamodb: Gate
    codebuild: Gate
    clock: BuildClock
    directory: Path
    http: aiohttp.ClientSession
    processes: list[Process] = attrs.field(init=False, factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return self.aws.environment() | {
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb.url,
            "AWS_ENDPOINT_URL_CODEBUILD": self.codebuild.url,
        }

    async def serve(self, **settings: Any) -> Process:
        """A process of `orchestrator serve`, ready; the settings are `section_key` names."""
        config = self._write_config(settings)
        return await self._start("orchestrator", "serve", "--config", config, "--port")

    async def work(self, **settings: Any) -> Process:
        """A process of `orchestrator worker`, ready."""
        config = self._write_config(settings)
        return await self._start("orchestrator", "worker", "--config", config, "--port")

    async def serve_later(self, ahead_s: float, **settings: Any) -> Process:
        """The same by a clock that is ahead by so many seconds."""
        config = self._write_config(settings)
        return await self._start("tests.integration.processes", config, str(ahead_s))

    async def send(
        self, process: Process, event_type: str, body: object, event_id: str | None = None
    ) -> Answer:
        headers = {"Idempotency-Key": event_id} if event_id else {}
        url = f"{process.url}/events/{event_type}"
        try:
            async with self.http.post(url, json=body, headers=headers) as answer:
                content = await answer.json(content_type=None)
                return Answer(
                    status=answer.status,
                    detail=content.get("detail", ""),
                    run=answer.headers.get("Location"),
                    replayed="Idempotent-Replayed" in answer.headers,
                )
        except aiohttp.ClientError:
            return Answer(status=None)

    async def provision(self, process: Process, tenant: str) -> Answer:
        """Send the event that requests the tenant's provisioning, always the same one."""
        body = {"tenant": {"id": tenant}, "planConfig": {"tier": "BASIC"}}
        return await self.send(process, "TENANT_PROVISIONING", body, f"event-{tenant}")

    async def get(self, process: Process, path: str) -> Any:
        async with self.http.get(f"{process.url}{path}") as answer:
            return await answer.json()

    async def runs(self, process: Process, tenant: str) -> list[dict[str, Any]]:
        page = await self.get(process, f"/runs?tenantId={tenant}&limit=100")
        runs: list[dict[str, Any]] = page["items"]
        return runs

    def builds(self, tenant: str) -> list[Build]:
        """The tenant's builds."""
        builds = self.aws.codebuild.builds.values()
        return [one for one in builds if f'"{tenant}"' in str(one.overrides)]

    async def ledger(self) -> dict[str, Any]:
        """All items of the ledger's table."""
        session = aws_session()
        async with session.client("dynamodb", endpoint_url=self.aws.endpoint_url) as client:
            pages = client.get_paginator("scan").paginate(TableName=LEDGER_TABLE)
            return {item["key"]["S"]: item async for page in pages for item in page["Items"]}

    def _write_config(self, settings: Mapping[str, Any]) -> str:
        defaults = {
            "ledger_lease_s": 5,
            "operations_reconcile_every_s": 0,
            "intake_deadline_s": PATIENCE_S,
            "aws_read_timeout_s": 2 * PATIENCE_S,
            "aws_transport": TRANSPORT,
            "tiers_cache_s": 0,
            "log_level": "warning",
        }
        lines = []
        for name, value in {**defaults, **settings}.items():
            section, _, key = name.partition("_")
            lines.append(f"{section}.{key} = {json.dumps(value)}")
        path = self.directory / f"service-{len(list(self.directory.iterdir()))}.toml"
        path.write_text("\n".join(lines))
        return str(path)

    async def _start(self, module: str, *arguments: str) -> Process:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        child = await zygote.start(
            module,
            *(*arguments, str(port)),
            env=child_environment(self.environment),
            cwd=Path(__file__).parents[2],
        )
        process = Process(f"http://{HOST}:{port}", child)
        self.processes.append(process)
        await until(lambda: self.is_ready(process))
        return process

    async def is_ready(self, process: Process) -> bool:
        assert process.child.returncode is None, "the process ended"
        with suppress(aiohttp.ClientError):
            async with self.http.get(f"{process.url}/readyz") as answer:
                return answer.status == 200
        return False


@asynccontextmanager
async def open_world(directory: Path, *, aws_url: str | None = None) -> AsyncIterator[World]:
    """An AWS with the sample tiers, their projects and an empty ledger; no process yet.

    `aws_url` leads to an empty AWS other than moto's.
    """
    clock = BuildClock()
    async with AsyncExitStack() as stack:
        aws = await stack.enter_async_context(open_embedded_aws(clock=clock))
        aws = attrs.evolve(aws, endpoint_url=aws_url or aws.endpoint_url)
        await aws.prepare(
            tier_table=TIER_TABLE,
            tiers=SAMPLE_TIERS,
            tables=[table_schema(LEDGER_TABLE)],
            bus=None,
            projects=["basic-tenant"],
        )
        world = World(
            aws,
            await stack.enter_async_context(open_gate(aws.endpoint_url)),
            await stack.enter_async_context(open_gate(aws.codebuild.url)),
            clock,
            directory,
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=2 * PATIENCE_S),
                )
            ),
        )
        try:
            yield world
        finally:
            await asyncio.gather(*(process.kill() for process in world.processes))


@attrs.frozen
class _Ahead(SystemClock):
    ahead: timedelta

    def now(self) -> datetime:
        return super().now() + self.ahead


def _serve_later(config: str, ahead_s: str, port: str) -> None:
    clock = _Ahead(timedelta(seconds=float(ahead_s)))
    settings = load_settings(config)
    configure_logs(level=settings.log.level, layout=settings.log.format, redact=settings.log.redact)
    run_workers(lambda: create_app(settings, clock=clock), host=HOST, port=int(port), workers=1)


if __name__ == "__main__":
    _serve_later(*sys.argv[1:])
