"""`orchestrator dev`: an embedded AWS, with `orchestrator serve` as a child process.

Also used by `demo`. The service gets endpoints and credentials from AWS's own environment
variables, as in any deployment.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import IO

import aiohttp
import attrs

from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.embedded import SAMPLE_TIERS, EmbeddedAWS, open_embedded_aws
from orchestrator.settings import Settings, child_environment

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_QUEUE = "orchestrator-events"


class ServiceDidNotStartError(Exception):
    """The child process ended, or was not ready in time."""


@attrs.frozen
class Service:
    """A running child process."""

    url: str
    process: asyncio.subprocess.Process


async def run_dev(
    settings: Settings, *, config: str, port: int | None, show: Callable[[list[str]], None]
) -> None:
    """Run the embedded AWS and the service until SIGINT or SIGTERM.

    Raises:
        ServiceDidNotStartError: the service didn't start, or ended unexpectedly.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with (
        open_prepared_aws(settings) as aws,
        open_service(
            config=config,
            port=port or settings.http.port,
            allowed_hosts=settings.http.allowed_hosts,
            environment=aws.environment(),
        ) as service,
    ):
        where = _WHERE_TO_LOOK.format(
            service=service.url,
            aws=aws.endpoint_url,
            queue=aws.queue_url(_QUEUE),
            tiers=_tier_names(),
            variables=" ".join(f"{name}={value}" for name, value in aws.environment().items()),
            config=config,
        )
        show(where.splitlines())
        waiting = [
            asyncio.create_task(stopped.wait()),
            asyncio.create_task(service.process.wait()),
        ]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not stopped.is_set():
            raise ServiceDidNotStartError("The service has ended unexpectedly: its log says why.")


@asynccontextmanager
async def open_prepared_aws(settings: Settings) -> AsyncIterator[EmbeddedAWS]:
    """An embedded AWS with the settings' tables and bus, a queue, sample tiers and their
    projects."""
    async with open_embedded_aws() as aws:
        await aws.prepare(
            tier_table=settings.tiers.table,
            tiers=SAMPLE_TIERS,
            tables=[table_schema(settings.ledger.table)],
            bus=settings.events.bus,
            queue=_QUEUE,
            projects=[
                str(name)
                for tier in SAMPLE_TIERS
                for attribute, name in tier.items()
                if attribute == "jobName" or attribute.lower().endswith("jobidentifier")
            ],
        )
        yield aws


@asynccontextmanager
async def open_service(
    *,
    config: str,
    host: str = "127.0.0.1",
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
    environment: Mapping[str, str],
    log: IO[str] | None = None,
) -> AsyncIterator[Service]:
    """Run `orchestrator serve` for the life of the context; `port` None chooses a free one.

    It answers only to its own `Host`, and to `allowed_hosts`: as an open service on a developer's
    machine it must not be reached by pages whose name leads to 127.0.0.1 by DNS rebinding.

    Raises:
        ServiceDidNotStartError: it ended during startup, or is not ready in time.
    """
    port = _usable_port(host, port or 0)
    own_hosts = json.dumps([f"{host}:{port}", f"localhost:{port}", *allowed_hosts])
    arguments = ("serve", "--config", config, "--host", host, "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orchestrator",
        *arguments,
        env=child_environment({**environment, "ORCHESTRATOR_HTTP__ALLOWED_HOSTS": own_hosts}),
        stdout=log,
        stderr=log,
    )
    try:
        service = Service(f"http://{host}:{port}", process)
        await _wait_until_ready(service)
        yield service
    finally:
        await _stop(process)


async def _wait_until_ready(service: Service) -> None:
    try:
        async with asyncio.timeout(_START_TIMEOUT_S), aiohttp.ClientSession() as http:
            while service.process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{service.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise ServiceDidNotStartError(
            f"The service at {service.url} was not ready within {_START_TIMEOUT_S:.0f} s."
        ) from None
    raise ServiceDidNotStartError(
        f"The service ended during startup with exit code {service.process.returncode}."
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _tier_names() -> str:
    return ", ".join(str(tier["tier"]) for tier in SAMPLE_TIERS)


_WHERE_TO_LOOK = """
  Service     {service}
  Console     {service}/console
  API docs    {service}/docs
  AWS         {aws} (DynamoDB, EventBridge, SQS; CodeBuild beside it)
  Tiers       {tiers}
  Queue       {queue}

  Send an event from another terminal:
    echo '{{"tenant": {{"id": "t-1"}}, "planConfig": {{"tier": "BASIC"}}}}' \\
      | orchestrator send TENANT_PROVISIONING --url {service}

  Or consume events from the queue:
    {variables} \\
      ORCHESTRATOR_INTAKE__QUEUE_URL={queue} orchestrator worker --config {config} --port 0

  Ctrl-C stops it.
"""


def _usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0. A port in use is refused: another service's answers there
    would be mistaken for this one's."""
    try:
        with socket.create_server((host, port)) as probe:
            usable: int = probe.getsockname()[1]
            return usable
    except OSError as error:
        raise ServiceDidNotStartError(
            f"Port {port} on {host} is not available ({error.strerror}): pass another --port."
        ) from error
