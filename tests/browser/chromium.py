"""Finds Chromium, and runs it without a window."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Containers have no user namespaces for Chromium's sandbox, and a small /dev/shm. The rest keeps
#: the browser from sending requests to its vendor's servers.
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_PATIENCE_S = 60.0


class MissingTool(Exception):
    """There is no Chromium on this machine; the message says so."""


@contextmanager
def running_chromium() -> Iterator[str]:
    """A Chromium without a window, for the life of the context: the URL of its DevTools protocol,
    by which any number of event loops can use it. Raises MissingTool."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise MissingTool(f"The browser tests need Chromium: none of {', '.join(_NAMES)} is here.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [found, *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(  # noqa: S603 - a browser of this machine
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield f"http://127.0.0.1:{_read_port(process, Path(profile) / 'DevToolsActivePort')}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _read_port(process: "subprocess.Popen[bytes]", file: Path) -> int:
    """The port that Chromium listens on, which it writes into a file of its profile."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"Chromium ended with {process.returncode}.")
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise RuntimeError(f"Chromium was not ready after {_PATIENCE_S:.0f} s.")
