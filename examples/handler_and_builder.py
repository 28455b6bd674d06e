"""A handler and the builder that runs its jobs, in one extension.

    ORCHESTRATOR__EXTENSION=handler_and_builder:extension orchestrator serve --app-dir examples
    echo '{"tenantId": "bluebird", "database": "bluebird-main"}' \\
        | orchestrator send BACKUP_REQUESTED

The job is the script `scripts/back-up.sh`, run by the builder of `own_builder.py`.
"""

from pathlib import Path

import attrs
from own_builder import ShellBuilder

from orchestrator import Event, Extension, HandlerRegistry, Run

registry = HandlerRegistry()


@attrs.frozen
class BackupRequest:
    tenant_id: str
    database: str


@registry.on("BACKUP_REQUESTED")
async def back_up(event: Event[BackupRequest], run: Run) -> None:
    """Each event is one job, however often it is delivered; its end is added to the run's note."""
    wanted = event.payload
    await run.start_job("back-up", {"DATABASE": wanted.database}, builder="SHELL")
    run.note(f"A backup of {wanted.database} was started.")


shell = ShellBuilder(Path("scripts"), Path("jobs"))
extension = Extension(registry=registry, builders={"SHELL": shell})
