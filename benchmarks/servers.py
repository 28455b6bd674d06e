"""The contestants as processes, and what each has used."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from benchmarks.load import ROOT

_START_S = 60.0
_STOP_S = 30.0

BENCH_PYTHON = ROOT / ".venv" / "bench" / "bin" / "python"

#: The environment of the servers: nothing of the environment that the benchmark runs in, but PATH.
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Failed(Exception):
    """The benchmark can't continue: a server doesn't do the work that is measured."""


@attrs.frozen(kw_only=True)
class Contestant:
    name: str
    module: Sequence[str]
    """The module that Python runs, with its arguments; PORT and CONFIG stand for theirs."""
    settings: str = ""
    """Settings in TOML, for this service only."""
    python: Path = Path(sys.executable)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Process:
    """A process that is started here, with all that it forks."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] = {}
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_ENVIRONMENT, **environment},
                cwd=ROOT,
            )
        self.pid = self._process.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = 0
        if kind is None and code not in (0, -signal.SIGTERM):
            raise self.failed(f"ended with {code}")

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def failed(self, what: str) -> Failed:
        tail = self._log.read_text(errors="replace")[-3000:]
        return Failed(f"{' '.join(map(str, self._process.args))}: {what}. Its log ends:\n{tail}")  # type: ignore[arg-type]

    def wait_until_it_listens(self, port: int, *, seconds: float = _START_S) -> None:
        until = time.monotonic() + seconds
        while True:
            if self._process.poll() is not None:
                raise self.failed(f"ended with {self._process.returncode}")
            if _accepts(port):
                return
            if time.monotonic() > until:
                raise self.failed("does not listen")
            time.sleep(0.005)

    def pids(self) -> list[int]:
        """Itself and its children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def cpu_s(self) -> list[float]:
        """The CPU time (seconds) of itself and of each child, over all threads."""
        return [time.clock_gettime(_cpu_clock(pid)) for pid in self.pids()]

    def rss_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def wait_until_idle(self) -> None:
        """Wait for the work that continues after the answers."""
        until = time.monotonic() + 10
        before = sum(self.cpu_s())
        while time.monotonic() < until:
            time.sleep(0.05)
            now = sum(self.cpu_s())
            if now - before < 0.001:
                return
            before = now
        raise self.failed("is not idle 10 s after its last event")


def _accepts(port: int) -> bool:
    """Whether a process listens there. A socket can also connect to itself, if its own port happens
    to be that one."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return bool(connection.getsockname() != connection.getpeername())
    except OSError:
        return False


def _cpu_clock(pid: int) -> int:
    """The clock of another process's CPU time, in nanoseconds (Linux; glibc,
    clock_getcpuclockid(3))."""
    return (~pid << 3) | 2


@attrs.frozen(kw_only=True)
class Server:
    contestant: Contestant
    process: Process
    port: int

    def get(self, path: str) -> Any:
        """The JSON of an answer that must be 200."""
        return self._ask("GET", path)

    def post(self, path: str, body: str) -> Any:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 200:
            raise self.process.failed(f"answers {method} {path} with {answer.status} {text!r}")
        return json.loads(text)


@contextmanager
def started(contestant: Contestant, *, aws_port: int | None = None) -> Iterator[Server]:
    """The contestant, as soon as it accepts connections."""
    with replicas(contestant, 1, aws_port=aws_port) as [server]:
        yield server


@contextmanager
def replicas(
    contestant: Contestant, count: int, *, aws_port: int | None = None
) -> Iterator[list[Server]]:
    """So many processes of the contestant, started at the same time."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_launched(contestant, aws_port)) for _ in range(count)]
        for server in servers:
            server.process.wait_until_it_listens(server.port)
        yield servers


@contextmanager
def _launched(contestant: Contestant, aws_port: int | None) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.toml")
        config.write_text(contestant.settings)
        given = {"PORT": str(port), "CONFIG": str(config)}
        command = [
            str(contestant.python),
            "-m",
            *(given.get(one, one) for one in contestant.module),
        ]
        aws = {} if aws_port is None else {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_port}"}
        with Process(command, log=Path(folder, "log"), environment=aws) as process:
            yield Server(contestant=contestant, process=process, port=port)


class StandIn:
    """The AWS stand-in's process, as the benchmark speaks to it."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, operation: str, **request: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        target = {"X-Amz-Target": f"Benchmark.{operation}"}
        connection.request("POST", "/", json.dumps(request), target)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        connection.close()
        if answer.status != 200:
            raise self.process.failed(f"answers {operation} with {document}")
        return document


@contextmanager
def stand_in() -> Iterator[StandIn]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.standin", str(port)]
        with Process(command, log=Path(folder, "log")) as process:
            process.wait_until_it_listens(port)
            yield StandIn(process, port)
