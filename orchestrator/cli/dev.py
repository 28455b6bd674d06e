"""`orchestrator dev`: an embedded AWS, with `orchestrator serve` as a child process.

Also used by `demo`. The service gets endpoints and credentials from AWS's own environment
variables, as in any deployment.
"""

import asyncio
import contextlib
import json
import os
import random
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import aiohttp
import attrs

from orchestrator.adapters.clock import RandomDice, SystemClock
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.cli.deliveries import Deliveries
from orchestrator.cli.running_dev import RunningDev, noted
from orchestrator.cli.signals import cancelled_by_signals
from orchestrator.cli.watched_files import WatchedFiles
from orchestrator.core.clock import Clock
from orchestrator.core.tasks import gather_or_cancel
from orchestrator.embedded import (
    SAMPLE_TIERS,
    Build,
    BuildTimer,
    BusQueue,
    EmbeddedAWS,
    open_bus_queue,
    open_embedded_aws,
)
from orchestrator.settings import Settings, child_environment, config_path

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


@attrs.frozen(kw_only=True)
class DevOptions:
    """What `orchestrator dev` was asked for. Builds end after `build_s` seconds, the share
    `failing` of them, from 0 to 1, as failed; `port` None is the setting's."""

    config: str
    port: int | None = None
    app_dir: Path | None = None
    extension: str | None = None
    build_s: float = 5.0
    failing: float = 0.0


Show = Callable[[list[str]], None]


async def run_dev(settings: Settings, options: DevOptions, *, show: Show) -> None:
    """Run the embedded AWS, what moves in it, and the service, until a signal ends all of it.

    Raises:
        ServiceDidNotStartError: the service didn't start, or ended unexpectedly.
    """
    with cancelled_by_signals() as received:
        try:
            await _run(settings, options, show)
        except asyncio.CancelledError:
            if not received:
                raise


async def _run(settings: Settings, options: DevOptions, show: Show) -> None:
    host, clock = "127.0.0.1", SystemClock()
    port = _usable_port(host, options.port or settings.http.port)
    url = f"http://{host}:{port}"

    def tell(sentence: str) -> None:
        show([f"{clock.now().astimezone():%H:%M:%S}  {sentence}"])

    async with (
        open_prepared_aws(settings) as aws,
        open_bus_queue(aws, settings.events.bus or "default") as bus,
        aiohttp.ClientSession() as http,
        _open_tasks() as spawn,
    ):
        deliveries = Deliveries(http=http, url=url, clock=clock, chance=random.Random(), show=tell)  # noqa: S311
        timer = BuildTimer(
            codebuild=aws.codebuild,
            clock=clock,
            dice=RandomDice(),
            after_s=options.build_s,
            failing=options.failing,
        )

        def move(build: Build) -> None:
            if build.ended is None:
                tell(f"Build {build.id} has started; it ends in {options.build_s:g} s.")
                spawn(timer.end(build))
            else:
                tell(f"Build {build.id} has ended: {build.status}.")
            spawn(deliveries.deliver(build.as_event()))

        aws.codebuild.on_change = move
        extension = {"ORCHESTRATOR__EXTENSION": options.extension} if options.extension else {}
        dev = RunningDev(
            pid=os.getpid(),
            url=url,
            config=config_path(options.config),
            app_dir=str(options.app_dir.resolve()) if options.app_dir else None,
            queue_url=aws.queue_url(_QUEUE),
            environment={**aws.environment(), **extension},
        )
        banner = _banner(dev, aws)
        with noted(dev, child_environment({})):
            await gather_or_cancel(
                [
                    _deliver_bus(bus, deliveries, spawn),
                    _keep_serving(settings, options, dev, port, clock, banner, show),
                ]
            )


@asynccontextmanager
async def _open_tasks() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """A function that runs a coroutine as a task; what still runs at the end is cancelled."""
    tasks = set[asyncio.Task[None]]()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        yield spawn
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _deliver_bus(
    bus: BusQueue, deliveries: Deliveries, spawn: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    while True:
        for event in await bus.receive():
            spawn(deliveries.deliver(event))


async def _keep_serving(
    settings: Settings,
    options: DevOptions,
    dev: RunningDev,
    port: int,
    clock: Clock,
    banner: list[str],
    show: Show,
) -> None:
    """Run the service; with a folder of an extension, a new one after each change in it.

    Raises:
        ServiceDidNotStartError: it did not start at first, or has ended and no file is watched.
    """
    files = WatchedFiles(options.app_dir, clock) if options.app_dir else None
    has_served = False
    while True:
        try:
            async with open_service(
                config=options.config,
                port=port,
                allowed_hosts=settings.http.allowed_hosts,
                environment=dev.environment,
                app_dir=options.app_dir,
            ) as service:
                if not has_served:
                    show(banner)
                has_served = True
                changed = await _change_or_end(service, files)
        except ServiceDidNotStartError as error:
            if files is None or not has_served:
                raise
            show([f"{error} It is started again when a file of {options.app_dir} changes."])
            changed = await files.wait_for_change()
        show([f"{', '.join(changed[:3])} changed: the service is started anew."])


async def _change_or_end(service: Service, files: WatchedFiles | None) -> list[str]:
    """The files that have changed. Raises ServiceDidNotStartError if the service has ended."""
    ended = asyncio.ensure_future(service.process.wait())
    waiting: set[asyncio.Future[Any]] = {ended}
    if files is not None:
        waiting.add(asyncio.ensure_future(files.wait_for_change()))
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
    if ended in done:
        raise ServiceDidNotStartError("The service has ended unexpectedly: its log says why.")
    changed: list[str] = done.pop().result()
    return changed


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
    app_dir: Path | None = None,
    log: IO[str] | None = None,
) -> AsyncIterator[Service]:
    """Run `orchestrator serve` for the life of the context; `port` None chooses a free one.

    It is in a process group of its own, so that Ctrl-C reaches only the caller, which stops it; if
    the caller is killed, it drains and ends, too.

    It answers only to its own `Host`, and to `allowed_hosts`: as an open service on a developer's
    machine it must not be reached by pages whose name leads to 127.0.0.1 by DNS rebinding.

    Raises:
        ServiceDidNotStartError: it ended during startup, or is not ready in time.
    """
    port = _usable_port(host, port or 0)
    own_hosts = json.dumps([f"{host}:{port}", f"localhost:{port}", *allowed_hosts])
    # Only this process holds the write end: however it ends, the service reads end of file.
    parent_ends, parent_lives = os.pipe()
    arguments = ["--config", config, "--host", host, "--port", str(port)]
    if app_dir is not None:
        arguments += ["--app-dir", str(app_dir)]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "orchestrator",
            "serve",
            *arguments,
            "--parent-ends",
            str(parent_ends),
            env=child_environment({**environment, "ORCHESTRATOR_HTTP__ALLOWED_HOSTS": own_hosts}),
            stdout=log,
            stderr=log,
            process_group=0,
            pass_fds=[parent_ends],
        )
        try:
            service = Service(f"http://{host}:{port}", process)
            await _wait_until_ready(service)
            yield service
        finally:
            await _stop(process)
    finally:
        os.close(parent_ends)
        os.close(parent_lives)


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


def _banner(dev: RunningDev, aws: EmbeddedAWS) -> list[str]:
    return _BANNER.format(
        service=dev.url,
        aws=aws.endpoint_url,
        tiers=", ".join(str(tier["tier"]) for tier in SAMPLE_TIERS),
        command=own_command(),
    ).splitlines()


def own_command() -> str:
    """What a shell in any folder starts this program with."""
    script = Path(sys.executable).with_name("orchestrator")
    if script.exists():
        return shlex.quote(str(script))
    return f"{shlex.quote(sys.executable)} -m orchestrator"


_BANNER = """
  Service     {service}
  Console     {service}/console
  API docs    {service}/docs
  AWS         {aws} (DynamoDB, EventBridge, SQS)
  Tiers       {tiers}

  Provision a tenant, from another terminal, and see it become active:
    echo '{{"tenantId": "t-1", "tier": "BASIC"}}' | \\
      {command} send TENANT_PROVISIONING
    {command} tenant t-1

  Builds end by themselves. To end one by hand, as failed:
    {command} dev finish JOB --failed REASON

  Variables for the AWS command line, or for `orchestrator worker`:
    eval "$({command} dev variables)"

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
