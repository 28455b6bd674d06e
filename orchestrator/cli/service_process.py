"""`orchestrator serve` as a child process of `dev` and `demo`.

The service gets endpoints and credentials from AWS's own environment variables, as in any
deployment.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import aiohttp
import attrs

from orchestrator.core.texts import system_reason
from orchestrator.settings import child_environment

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05


class ServiceDidNotStartError(Exception):
    """The child process ended, or was not ready in time."""


@attrs.frozen
class Service:
    """A running child process."""

    url: str
    process: asyncio.subprocess.Process


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
    port = usable_port(host, port or 0)
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


def usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0. A port in use is refused: another service's answers there
    would be mistaken for this one's."""
    try:
        with socket.create_server((host, port)) as probe:
            usable: int = probe.getsockname()[1]
            return usable
    except OSError as error:
        raise ServiceDidNotStartError(
            f"Port {port} on {host} is not available ({system_reason(error)}): pass another --port."
        ) from error
