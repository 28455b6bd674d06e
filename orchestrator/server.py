"""`orchestrator serve`: the app on a port, until a signal asks it to go."""

import asyncio
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import signal
import socket
from collections.abc import Callable
from types import FrameType

import structlog
from aiohttp import web

from orchestrator.intake.keys import WORKLOAD

#: Fargate kills 30 s after SIGTERM; both together stay below 25.
_DRAIN_S = 20.0
_CLOSE_S = 3.0

log = structlog.get_logger("orchestrator.server")


def run_workers(
    build_app: Callable[[], web.Application], *, host: str, port: int, workers: int
) -> None:
    """Serve in so many processes, all on one port; one that ends unasked is replaced.

    Raises:
        OSError: the port can't be had.
    """
    listener = _listen(host, port)
    if workers == 1:
        asyncio.run(run_server(build_app(), listener))
        return
    # Forked before there is an event loop, so that all of them accept from one socket.
    fork = multiprocessing.get_context("fork")
    children = [_start_worker(fork, build_app, listener) for _ in range(workers)]
    asked_to_stop = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        for child in children:
            child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while any(child.is_alive() for child in children):
        multiprocessing.connection.wait([child.sentinel for child in children if child.is_alive()])
        for index, child in enumerate(children):
            if not asked_to_stop and not child.is_alive():
                log.error("worker ended, another one begins", exit_code=child.exitcode)
                children[index] = _start_worker(fork, build_app, listener)


def _start_worker(
    fork: multiprocessing.context.ForkContext,
    build_app: Callable[[], web.Application],
    listener: socket.socket,
) -> multiprocessing.context.ForkProcess:
    def work() -> None:
        asyncio.run(run_server(build_app(), listener))

    child = fork.Process(target=work)
    child.start()
    return child


def _listen(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=128)


async def run_server(app: web.Application, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then drain: readiness says no while work is finished."""
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        log.info("listening", url=_url(runner))
        await asked_to_stop.wait()
        await app[WORKLOAD].drain(timeout_s=_DRAIN_S)
    finally:
        await runner.cleanup()
    log.info("stopped")


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
