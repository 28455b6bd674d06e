"""Serves the app on a port until SIGTERM or SIGINT, in one or several worker processes."""

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event
from types import FrameType

import structlog
from aiohttp import web

from orchestrator.adapters.prometheus import shared_by_processes
from orchestrator.app import DRAIN_S
from orchestrator.core.texts import system_reason
from orchestrator.intake.app_keys import DRAINS
from orchestrator.intake.connections import CONNECTION_LIMITS, serve_connections

#: Together with `DRAIN_S` below 25 s: Fargate sends SIGKILL 30 s after SIGTERM.
_CLOSE_S = 3.0

log = structlog.get_logger("orchestrator.server")


class PortNotAvailableError(Exception):
    """The service can't listen at its host and port."""


class WorkerDidNotStartError(Exception):
    """A worker process ended during startup; its log says why."""


def run_workers(
    build_app: Callable[[], web.Application],
    *,
    host: str,
    port: int,
    workers: int,
    parent_ends: int | None = None,
) -> None:
    """Serve in `workers` processes on one port; one that ends unexpectedly is replaced.

    With one worker, `parent_ends` is that of `run_server`.

    Raises:
        PortNotAvailableError: it can't be listened at, or is in use.
        WorkerDidNotStartError: a worker process ended during startup.
        Exception: raised by `build_app`.
    """
    with shared_by_processes() if workers > 1 else nullcontext():
        app = build_app()
        listener = _listen(host, port)
        if workers == 1:
            asyncio.run(run_server(app, listener, parent_ends=parent_ends))
            return
        _Workers(build_app, listener).run(workers)


class _Workers:
    """Worker processes, forked before there is an event loop, that accept from one socket.

    Only the parent holds the write end of a pipe: however it dies, the workers read end of file,
    and drain.
    """

    def __init__(self, build_app: Callable[[], web.Application], listener: socket.socket) -> None:
        self._build_app = build_app
        self._listener = listener
        self._parent_ends, self._parent_lives = os.pipe()
        self._fork = multiprocessing.get_context("fork")
        self._children: dict[ForkProcess, Event] = {}
        self._is_stopping = False

    def run(self, workers: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(workers):
            self._start()
        while self._children:
            ended = wait([child.sentinel for child in self._children])
            for child in [one for one in self._children if one.sentinel in ended]:
                child.join()
                self._replace(child, has_served=self._children.pop(child).is_set())

    def _replace(self, ended: ForkProcess, *, has_served: bool) -> None:
        if self._is_stopping:
            return
        if not has_served:
            self._stop()
            raise WorkerDidNotStartError("A worker process ended during startup; its log says why.")
        log.error("worker ended: starting another one", exit_code=ended.exitcode)
        self._start()

    def _start(self) -> None:
        serves = self._fork.Event()
        child = self._fork.Process(target=self._work, args=(serves,))
        child.start()
        self._children[child] = serves
        if self._is_stopping:  # a signal arrived while the process was started
            child.terminate()

    def _work(self, serves: Event) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._parent_lives)
        try:
            asyncio.run(
                run_server(
                    self._build_app(),
                    self._listener,
                    on_listening=serves.set,
                    parent_ends=self._parent_ends,
                )
            )
        except Exception as error:  # noqa: BLE001 - its message is logged, and the process ends
            # With one worker the command line prints the error; here there is no caller to do it.
            log.error("worker ended", reason=str(error))
            sys.exit(1)

    def _stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        self._is_stopping = True
        for child in self._children:
            child.terminate()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else "no host's name"
        raise PortNotAvailableError(
            f"Port {port} on {host} is not available ({reason}): pass another --host or --port."
        ) from error


async def run_server(
    app: web.Application,
    listener: socket.socket,
    *,
    on_listening: Callable[[], None] = lambda: None,
    parent_ends: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain: not ready, while work in progress finishes.

    `parent_ends` is a file descriptor that becomes readable once the parent process has ended,
    which counts as SIGTERM.
    """
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    if parent_ends is not None:

        def stop_alone() -> None:
            loop.remove_reader(parent_ends)
            log.warning("the parent process has ended")
            asked_to_stop.set()

        loop.add_reader(parent_ends, stop_alone)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
    try:
        async with serve_connections(runner, listener, app[CONNECTION_LIMITS]):
            _calm_collector()
            on_listening()
            log.info("listening", url=_url(listener))
            await asked_to_stop.wait()
            await app[DRAINS].drain(timeout_s=DRAIN_S)
    finally:
        await runner.cleanup()
        # The loop closes what a signal is written to before it forgets the handlers: a signal in
        # between would print a traceback.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("stopped")


def _calm_collector() -> None:
    """Leave what was imported out of garbage collections, and collect less often.

    A full collection walks the heap of the AWS SDK, some 50 ms in which no event is handled, after
    about every thousand events. What an event leaves is freed by reference counts: hardly
    anything is in a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
