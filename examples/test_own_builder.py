"""The builder of `own_builder.py` keeps the contract of builders.

python -m pytest examples/test_own_builder.py
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import pytest_asyncio
from own_builder import ShellBuilder

from orchestrator import JobStatus
from orchestrator.testing.builder_contract import BuilderBench, BuilderContract

#: Each job waits in the pipe `end` for its exit status and the line that it then prints.
SCRIPT = """
mkfifo end 2>/dev/null
read -r code line <end
echo "$line"
exit "$code"
"""
SET_BY_THE_SHELL = {"PATH", "PWD", "OLDPWD", "SHLVL", "_"}


class ShellBench(BuilderBench):
    """What the suite needs behind the builder: a look at its jobs, and ways to end them."""

    builder: ShellBuilder
    ends = (JobStatus.SUCCEEDED, JobStatus.FAILED)

    def __init__(self, folder: Path) -> None:
        self.jobs = folder / "jobs"
        super().__init__(ShellBuilder(folder, self.jobs))
        for name in self.job_identifiers:
            (folder / f"{name}.sh").write_text(SCRIPT)

    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        return {
            one.name: (
                one.name.rpartition(".")[0],
                {*(one / "variables").read_text().split()} - SET_BY_THE_SHELL,
            )
            for one in self.jobs.glob("*")
        }

    async def finish(self, job_id: str, status: JobStatus, message: str) -> None:
        pipe = self.jobs / job_id / "end"
        with suppress(FileExistsError):
            os.mkfifo(pipe)
        code = 0 if status is JobStatus.SUCCEEDED else 1
        await asyncio.to_thread(pipe.write_text, f"{code} {message}\n")
        await self.builder.processes.pop(job_id).wait()

    async def forget(self, job_id: str) -> None:
        await self.finish(job_id, JobStatus.SUCCEEDED, "")
        shutil.rmtree(self.jobs / job_id)

    async def close(self) -> None:
        for job_id in list(self.builder.processes):
            await self.finish(job_id, JobStatus.SUCCEEDED, "")


class TestShellBuilder(BuilderContract):
    @pytest_asyncio.fixture
    async def builder_bench(self, tmp_path: Path) -> AsyncIterator[ShellBench]:
        bench = ShellBench(tmp_path)
        yield bench
        await bench.close()
