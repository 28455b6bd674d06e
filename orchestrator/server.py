"""`orchestrator serve`: the app on a port, until a signal asks it to go."""

import asyncio
import signal

import structlog
from aiohttp import web

from orchestrator.intake.keys import WORKLOAD

#: Fargate kills 30 s after SIGTERM; both together stay below 25.
_DRAIN_S = 20.0
_CLOSE_S = 3.0

log = structlog.get_logger("orchestrator.server")


async def run_server(app: web.Application, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then drain: readiness says no while work is finished.

    Raises:
        OSError: the port can't be had.
    """
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        log.info("listening", url=_url(runner))
        await asked_to_stop.wait()
        await app[WORKLOAD].drain(timeout_s=_DRAIN_S)
    finally:
        await runner.cleanup()
    log.info("stopped")


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
