"""Handles state changes, which make the service query the job's builder."""

import attrs
import structlog

from orchestrator.core.jobs.describe import not_shown_yet
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.jobs.notifications import Notifications
from orchestrator.core.jobs.watch import JobWatcher
from orchestrator.core.ledger.record_parts import OperationState

log = structlog.get_logger("orchestrator.state_changes")


@attrs.frozen
class Ended:
    """The job is over: the outcome's run, new or (`replayed`) existing."""

    run_id: str
    replayed: bool = False


async def act_on(
    watcher: JobWatcher, notifications: Notifications, state_change: JobDescription, source: str
) -> Ended | None:
    """Query the builder of the job in a state change, and act only on its answer.

    None: the operation continues, or the service did not start the job. If the builder can't
    describe jobs, a message from its cloud (by its `source`) counts.

    Raises:
        TemporaryError: ledger or builder can't be reached, the builder doesn't show the job yet,
            or an orphaned job couldn't be stopped.
        OrchestratorError: the outcome couldn't be handled yet; it is kept.
    """
    job, transactions = state_change.job, watcher.transactions
    is_askable = job.builder in watcher.describer.describable
    if watcher.stopper.leaves_alone(job):
        return None
    if not is_askable and not notifications.is_source(source, job.builder):
        log.warning(
            "state change ignored: its builder can't describe jobs, and its source isn't AWS",
            job_id=job.id,
            builder=job.builder,
            source=source,
        )
        return None
    known = await transactions.find_job(job.builder, job.id)
    start = (
        (known.operation_id, known.start_number)
        if known
        else watcher.describer.start_of(state_change)
    )
    operation = await transactions.find_operation(start[0]) if start else None
    # A start that was just sent may not be recorded yet: its job is not touched.
    if start is None or operation is None or start[1] > operation.start_number:
        return None
    if watcher.stopper.leaves_alone(operation.job):
        return None
    description = await watcher.describer.describe(job) if is_askable else state_change
    if description is None and known is None:
        raise not_shown_yet(job)
    if description is not None:
        if known is None and watcher.describer.start_of(description) != start:
            log.info("state change ignored: the job was not started by this service", job_id=job.id)
            return None
        operation = await watcher.adopter.adopt(description, operation, start[1])
        if operation is None:
            return None
    if description is None or not description.is_over:
        if state_change.is_over:
            await watcher.ask_again(*start)
        return None
    if operation.state is not OperationState.OPEN:
        return Ended(operation.outcome or operation.opener, replayed=True)
    return Ended(await watcher.outcomes.end(operation, description))
