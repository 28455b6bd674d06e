"""Starts ministack, an AWS whose EventBridge reaches API destinations, on 127.0.0.1."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

_START_TIMEOUT_S = 60.0
_POLL_S = 0.1


class MissingTool(Exception):
    """ministack isn't installed; the message says how to install it."""


@contextmanager
def running_ministack() -> Iterator[str]:
    """Run ministack for the context; its URL. Raises MissingTool."""
    program = Path(sys.prefix) / "ministack" / "bin" / "ministack"
    if not program.exists():
        raise MissingTool(f"ministack isn't at {program}: `make test` puts it there.")
    with socket.socket() as probe, TemporaryDirectory() as home:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = {
            "PATH": os.defpath,
            "HOME": home,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
        }
        log = (Path(home) / "log").open("w+")
        process = subprocess.Popen(  # noqa: S603
            [str(program)], env=environment, cwd=home, stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(process, url, log.name)
            yield url
        finally:
            process.kill()
            process.wait()
            log.close()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: str) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - ours, on loopback
            return
        time.sleep(_POLL_S)
    raise RuntimeError(f"ministack did not start: {Path(log).read_text()[-2000:]}")
