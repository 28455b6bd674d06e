"""Jobs started by a builder of your own: here, a shell script for each job.

    ORCHESTRATOR__EXTENSION=own_builder:extension orchestrator serve --app-dir examples

Events choose it with `"builderConfig": {"type": "SHELL"}`, tiers with `builder: SHELL`.
`test_own_builder.py` proves that a lost answer, a duplicate or a crash never makes a second job.
"""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator import Extension, Job, JobDescription, JobStatus, PermanentError

# Of all shells with one start key, one makes the folder and runs the script: mkdir is atomic.
_RUN_ONCE = """
mkdir "$1" 2>/dev/null || exit 0
cd "$1" && env | cut -d= -f1 >variables && echo claimed
sh "$2" >log 2>&1
echo $? >exit
"""


class ShellBuilder:
    """Runs `scripts/<job identifier>.sh` with the job's variables as its environment, in the folder
    `jobs/<job identifier>.<start key>`, which keeps its output and its exit status."""

    def __init__(self, scripts: Path, jobs: Path) -> None:
        self._scripts = scripts.absolute()
        self._jobs = jobs.absolute()
        self.processes: dict[str, Process] = {}

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """The same start key never starts a second job: that is what makes duplicates harmless."""
        job = Job(id=f"{job_identifier}.{start_key}", job_identifier=job_identifier)
        script = self._scripts / f"{job_identifier}.sh"
        if not script.exists():
            raise PermanentError(f"There is no script {script}.")
        self._jobs.mkdir(exist_ok=True)
        variables = {name: str(value) for name, value in params.items() if value is not None}
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", _RUN_ONCE, "sh", str(self._jobs / job.id), str(script)),
            env={"PATH": os.defpath, **variables},
            stdout=PIPE,
        )
        assert process.stdout is not None
        if await process.stdout.readline():
            self.processes[job.id] = process
        else:  # another start with this key was first
            await process.wait()
        return job

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The job that a start with this key made, if its answer was lost."""
        found = [one.name for one in self._jobs.glob(f"*.{start_key}")]
        return self._job(found[0]) if found else None

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """How each job stands; one that is left out doesn't exist."""
        return {one: self._describe(one) for one in job_ids if (self._jobs / one).exists()}

    def _job(self, job_id: str) -> Job:
        return Job(id=job_id, job_identifier=job_id.rpartition(".")[0])

    def _describe(self, job_id: str) -> JobDescription:
        exited, log = self._jobs / job_id / "exit", self._jobs / job_id / "log"
        code = exited.read_text().strip() if exited.exists() else ""
        ended = JobStatus.SUCCEEDED if code == "0" else JobStatus.FAILED
        return JobDescription(
            job=self._job(job_id),
            status=ended if code else JobStatus.IN_PROGRESS,
            start_key=job_id.rpartition(".")[2],
            message=log.read_text()[-500:].strip() if code else None,
        )


extension = Extension(builders={"SHELL": ShellBuilder(Path("scripts"), Path("jobs"))})
