"""Several workers at one port: they share it, start and end together, and a failed start is
reported once."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from orchestrator.embedded import EmbeddedAWS
from orchestrator.settings import child_environment
from tests import zygote
from tests.integration.commands import PATIENCE_S, run


class Workers:
    """`orchestrator serve --workers 2`, with its log read line by line."""

    def __init__(self, url: str, process: zygote.Child) -> None:
        self.url = url
        self.process = process
        self._log = b""

    @property
    def pids(self) -> set[int]:
        pid = self.process.pid
        return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    async def listening(self, count: int) -> None:
        """Return once so many workers have begun to listen; two may log at once."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while self._log.count(b"listening") < count:
                more = await self.process.stderr.read(1000)
                assert more, "it ended"
                self._log += more

    async def rest_of_log(self) -> str:
        """The log until the last of the processes has closed it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            return (self._log + await self.process.stderr.read()).decode()

    async def answers(self) -> bool:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as http,
            http.get(f"{self.url}/healthz") as answer,
        ):
            return answer.status == 200

    async def wait(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


@asynccontextmanager
async def open_workers(**environment: str) -> AsyncIterator[Workers]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await zygote.start(
        *("orchestrator", "serve", "--config", "local.toml", "--workers", "2"),
        "--port",
        str(port),
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(environment),
    )
    workers = Workers(f"http://127.0.0.1:{port}", process)
    children: set[int] = set()
    try:
        yield workers
    finally:
        with contextlib.suppress(OSError):
            children = workers.pids
        for pid in (*children, process.pid) if process.returncode is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.communicate()


async def test_workers_share_a_port(aws: EmbeddedAWS) -> None:
    """Each worker answers while the other is suspended; a killed one is replaced; all exit
    cleanly."""
    async with open_workers() as workers:
        await workers.listening(2)
        first, second = workers.pids
        for pid in (first, second):
            os.kill(pid, signal.SIGSTOP)
            assert await workers.answers()
            os.kill(pid, signal.SIGCONT)

        os.kill(first, signal.SIGKILL)
        await workers.listening(3)
        replaced = workers.pids
        assert second in replaced
        assert first not in replaced
        assert len(replaced) == 2
        assert await workers.answers()

        workers.process.terminate()
        assert await workers.wait() == 0
        for pid in replaced:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_workers_are_measured_as_one(aws: EmbeddedAWS) -> None:
    """The metrics of each worker are the sum over all, including one that was killed."""
    async with open_workers() as workers, aiohttp.ClientSession() as http:
        await workers.listening(2)

        async def count_sweeps() -> float:
            async with http.get(f"{workers.url}/metrics") as answer:
                families = text_string_to_metric_families(await answer.text())
            samples = [sample for family in families for sample in family.samples]
            return sum(one.value for one in samples if one.name == "orchestrator_events_total")

        first, second = workers.pids
        for pid in (first, second):
            os.kill(pid, signal.SIGSTOP)
            async with (
                aiohttp.ClientSession() as other,  # not a connection to the stopped worker
                other.post(f"{workers.url}/events/RECONCILE", json={}) as answer,
            ):
                assert answer.status == 200
            os.kill(pid, signal.SIGCONT)
        assert await count_sweeps() == 2
        os.kill(first, signal.SIGKILL)
        await workers.listening(3)
        assert await count_sweeps() == 2


async def test_no_worker_outlives_its_parent(aws: EmbeddedAWS) -> None:
    """When their parent is killed, which can't notify them, the workers drain on their own and
    release the port."""
    async with open_workers() as workers:
        await workers.listening(2)
        pids = workers.pids
        assert len(pids) == 2
        os.kill(workers.process.pid, signal.SIGKILL)
        try:
            # The workers hold the other end of the log: it ends with the last of them.
            log = await workers.rest_of_log()
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert await workers.wait() == -signal.SIGKILL
        assert log.count("the parent process has ended") == 2
        assert log.count("stopped") == 2
        port = URL(workers.url).port
        with socket.create_server(("127.0.0.1", port or 0)):
            pass  # no other process has it


async def test_workers_that_cant_begin_end_the_service(aws: EmbeddedAWS) -> None:
    """If workers can't start, the reason is one line and the exit code 1, as with one worker; no
    start is retried without end."""
    async with open_workers(ORCHESTRATOR__EXTENSION="nowhere.at_all:extension") as workers:
        async with asyncio.timeout(PATIENCE_S):
            assert workers.process.stderr is not None
            log = (await workers.process.stderr.read()).decode()
            assert await workers.process.wait() == 1
        assert log.count("\n") == 1, log
        assert "nowhere" in log


async def test_a_port_that_is_taken_is_one_line(aws: EmbeddedAWS) -> None:
    """A port that is in use is reported by all workers together, once and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await run("serve", "--config", "local.toml", "--workers", "2", "--port", port)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "ddress already in use" in ended.err


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_mere_mistake_in_the_settings_is_a_sentence(aws: EmbeddedAWS, workers: str) -> None:
    """A mistake in the settings that shows only when the service opens is a sentence, with one
    worker or several."""
    wrong = {"ORCHESTRATOR_BUILDERS__DEFAULT": "JENKINS"}
    ended = await run(
        "serve", "--config", "local.toml", "--workers", workers, "--port", "0", **wrong
    )
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "JENKINS" in ended.err
