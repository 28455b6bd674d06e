"""Python processes for the tests, forked from one that has imported everything, because importing
the service and its libraries takes longer than most of what a process is started for.

`start` is `asyncio.create_subprocess_exec(sys.executable, "-m", ...)`. A child is a process like
any other, with standard streams, environment, folder and exit code of its own. It can't show that
an import is missing; for that `tests/integration/test_command_line.py` starts its own processes.
"""

import asyncio
import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
#: Modules that a service, a worker and a command import, sooner or later.
_IMPORTED = (
    "aioboto3",
    "orchestrator.app",
    "orchestrator.intake.openapi",
    "orchestrator.cli.main",
    "orchestrator.cli.client",
    "orchestrator.cli.explain",
    "orchestrator.cli.check",
    "orchestrator.server",
    "orchestrator.embedded",
)
_LONGEST = 2**20
_KEPT = 2**30


class Child:
    """A child process, with the interface of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, reports: asyncio.StreamReader) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._ended = asyncio.create_task(self._wait(reports))

    async def _wait(self, reports: asyncio.StreamReader) -> int:
        self.returncode = int(await reports.readline())
        await reports.read()  # to the end, so that no pipe is left open
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def communicate(self, given: bytes | None = None) -> tuple[bytes, bytes]:
        if self.stdin is not None:
            self.stdin.write(given or b"")
            self.stdin.close()
        out, err = await asyncio.gather(_rest(self.stdout), _rest(self.stderr))
        await self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _rest(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def start(
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    open_files: int | None = None,
) -> Child:
    """Start a process of `python -m module arguments`. A stream is inherited, PIPE, DEVNULL or a
    file; `stderr` may be STDOUT. The process may open `open_files`; None: as many as this one."""
    asked = {
        "module": module,
        "arguments": arguments,
        "environment": dict(os.environ if env is None else env),
        "folder": str(cwd or Path.cwd()),
        "open_files": open_files,
    }
    theirs: list[int] = []
    ours: dict[str, int] = {}
    for name, stream, inherited in (
        ("stdin", stdin, 0),
        ("stdout", stdout, 1),
        ("stderr", stderr, 2),
        ("reports", subprocess.PIPE, -1),
    ):
        if stream == subprocess.PIPE:
            read, write = os.pipe()
            ours[name], there = (write, read) if name == "stdin" else (read, write)
        elif stream == subprocess.DEVNULL:
            there = os.open(os.devnull, os.O_RDWR)
        elif stream == subprocess.STDOUT:
            there = os.dup(theirs[1])
        else:
            source = inherited if stream is None else stream
            there = os.dup(source if isinstance(source, int) else source.fileno())
        theirs.append(there)
    try:
        socket.send_fds(_zygote(), [json.dumps(asked).encode()], theirs)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    reports = await _reader(ours["reports"])
    child = Child(int(await reports.readline()), reports)
    if "stdin" in ours:
        child.stdin = await _writer(ours["stdin"])
    if "stdout" in ours:
        child.stdout = await _reader(ours["stdout"])
    if "stderr" in ours:
        child.stderr = await _reader(ours["stderr"])
    return child


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_KEPT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


@cache
def _zygote() -> socket.socket:
    """The socket to this process's zygote, which ends when the socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
        cwd=ROOT,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(way: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. In the child, return the request; return None once the socket is
    closed."""
    statuses: dict[int, int] = {}
    noticed, notice = socket.socketpair()
    noticed.setblocking(False)
    notice.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(notice.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(way, selectors.EVENT_READ)
        selector.register(noticed, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if noticed in ready:
                noticed.recv(1024)
                _report_exit_codes(statuses)
            if way not in ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(way, _LONGEST, 4)
            if not message:
                return None
            *streams, status = descriptors
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                # Ignored where the tests were started by nohup.
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
                for one in (way, noticed, notice):
                    one.close()
                for descriptor in (status, *statuses.values()):
                    os.close(descriptor)
                for number, descriptor in enumerate(streams):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                asked: dict[str, Any] = json.loads(message)
                return asked
            for descriptor in streams:
                os.close(descriptor)
            statuses[pid] = status
            os.write(status, b"%d\n" % pid)


def _report_exit_codes(statuses: dict[int, int]) -> None:
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        descriptor = statuses.pop(pid)
        try:
            os.write(descriptor, b"%d\n" % os.waitstatus_to_exitcode(status))
        except BrokenPipeError:
            pass
        finally:
            os.close(descriptor)


def _become(asked: Mapping[str, Any]) -> None:
    """Run the module, and end as the interpreter does, except that no module is cleared, which
    would copy all memory that is shared with the zygote."""
    code = 1
    try:
        _run(asked)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - the interpreter shows any
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


def _run(asked: Mapping[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    if (files := asked["open_files"]) is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    sys.path[0] = asked["folder"]
    sys.argv = [asked["module"], *asked["arguments"]]
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for imported in _IMPORTED:
        importlib.import_module(imported)
    gc.freeze()
    if (asked := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _become(asked)
