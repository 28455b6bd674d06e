"""`orchestrator dev`: an embedded AWS in which builds end and events are delivered, and the service
as a child process, which is restarted when your code changes."""

import asyncio
import os
import random
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from orchestrator.adapters.clock import RandomDice, SystemClock
from orchestrator.cli.deliveries import Deliveries
from orchestrator.cli.prepared_aws import QUEUE, open_prepared_aws
from orchestrator.cli.running_dev import RunningDev, noted
from orchestrator.cli.service_process import (
    Service,
    ServiceDidNotStartError,
    open_service,
    usable_port,
)
from orchestrator.cli.signals import cancelled_by_signals
from orchestrator.cli.watched_files import WatchedFiles
from orchestrator.core.tasks import gather_or_cancel
from orchestrator.embedded import (
    SAMPLE_TIERS,
    Build,
    BuildTimer,
    BusQueue,
    EmbeddedAWS,
    open_bus_queue,
)
from orchestrator.settings import Settings, child_environment, config_path


@attrs.frozen(kw_only=True)
class DevOptions:
    """The options of `orchestrator dev`. Builds end after `build_s` seconds, the share
    `failing` of them, from 0 to 1, as failed; `port` None is the setting's."""

    config: str
    port: int | None = None
    app_dir: Path | None = None
    extension: str | None = None
    build_s: float = 5.0
    failing: float = 0.0


Show = Callable[[list[str]], None]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


async def run_dev(settings: Settings, options: DevOptions, *, show: Show) -> None:
    """Run the embedded AWS, its builds and deliveries, and the service, until a signal ends them.

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
    port = usable_port(host, options.port or settings.http.port)
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
            queue_url=aws.queue_url(QUEUE),
            environment={**aws.environment(), **extension},
        )
        start = partial(
            open_service,
            config=options.config,
            port=port,
            allowed_hosts=settings.http.allowed_hosts,
            environment=dev.environment,
            app_dir=options.app_dir,
        )
        files = WatchedFiles(options.app_dir, clock) if options.app_dir else None
        with noted(dev, child_environment({})):
            await gather_or_cancel(
                [
                    _deliver_bus(bus, deliveries, spawn),
                    _keep_serving(start, files, banner=_banner(dev, aws), show=show),
                ]
            )


@asynccontextmanager
async def _open_tasks() -> AsyncIterator[Spawn]:
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


async def _deliver_bus(bus: BusQueue, deliveries: Deliveries, spawn: Spawn) -> None:
    while True:
        for event in await bus.receive():
            spawn(deliveries.deliver(event))


async def _keep_serving(
    start: Callable[[], AbstractAsyncContextManager[Service]],
    files: WatchedFiles | None,
    *,
    banner: list[str],
    show: Show,
) -> None:
    """Run the service, and a new one after each change of the files.

    Raises:
        ServiceDidNotStartError: it did not start at first, or has ended and no file is watched.
    """
    has_served = False
    while True:
        try:
            async with start() as service:
                if not has_served:
                    show(banner)
                has_served = True
                changed = await _change_or_end(service, files)
        except ServiceDidNotStartError as error:
            if files is None or not has_served:
                raise
            show([f"{error} It is started again when a file in {files.folder} changes."])
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


def _banner(dev: RunningDev, aws: EmbeddedAWS) -> list[str]:
    return _BANNER.format(
        service=dev.url,
        aws=aws.endpoint_url,
        tiers=", ".join(str(tier["tier"]) for tier in SAMPLE_TIERS),
        command=own_command(),
    ).splitlines()


def own_command() -> str:
    """The command by which a shell in any folder starts this program."""
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

  Builds end automatically. To end one by hand, as failed:
    {command} dev finish JOB --failed REASON

  Variables for the AWS command line, or for `orchestrator worker`:
    eval "$({command} dev variables)"

  Ctrl-C stops it.
"""
