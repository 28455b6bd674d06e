"""Jobs started by a builder of your own: here, a shell command for each job.

    ORCHESTRATOR__EXTENSION=own_builder:extension orchestrator serve --app-dir examples

Events choose it with `"builderConfig": {"type": "SHELL"}`, tiers with `builder: SHELL`.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import Extension, Job, PermanentError


class ShellBuilder:
    """Runs `scripts/<job identifier>.sh` with the job's variables as its environment."""

    def __init__(self, scripts: Path) -> None:
        self._scripts = scripts
        self._started: dict[str, Job] = {}

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """The same start key never starts a second job: that is what makes duplicates harmless."""
        if start_key in self._started:
            return self._started[start_key]
        script = self._scripts / f"{job_identifier}.sh"
        if not script.exists():
            raise PermanentError(f"There is no script {script}.")
        variables = {name: str(value) for name, value in params.items() if value is not None}
        process = await asyncio.create_subprocess_exec(
            "sh", str(script), env={"PATH": os.defpath, **variables}
        )
        job = Job(id=str(process.pid), job_identifier=job_identifier)
        self._started[start_key] = job
        return job


extension = Extension(builders={"SHELL": ShellBuilder(Path("scripts"))})
