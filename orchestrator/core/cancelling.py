"""An operator stops what is being done to a tenant."""

import contextlib
from collections.abc import Awaitable, Callable

import structlog

from orchestrator.core.errors import (
    Cancelled,
    HandlerFailed,
    NotAllowed,
    PermanentError,
    TenantNotFound,
)
from orchestrator.core.operations import ask_to_stop
from orchestrator.core.oversight import Overseer
from orchestrator.core.records import OperationRecord, OperationState, RunStatus, shorten

log = structlog.get_logger("orchestrator.cancelling")


async def cancel(
    overseer: Overseer,
    resume: Callable[[str], Awaitable[object]],
    tenant_id: str,
    reason: str | None,
    *,
    on_certain: Callable[[], None],
) -> bool:
    """Stop the tenant's operation, which ends as failed; False: it has not ended yet.

    A run that is still opening it is resumed, and fails: it holds the operation, so it is the
    one that can end it without a job. `on_certain` is called once the cancel has taken effect: the
    sweep finds it written and carries it out, whatever this call still meets.

    Raises:
        TenantNotFound: there is no such tenant.
        NotAllowed: nothing is being done to it, or by a dry run, or this is one and that isn't.
        TemporaryError: a run is at work on it right now, or a builder can't be reached.
    """
    books = overseer.books
    tenant = await books.find_tenant(tenant_id)
    if tenant is None:
        raise TenantNotFound(tenant_id)
    found = await books.find_operation(tenant.operation_id) if tenant.operation_id else None
    if found is None:
        raise NotAllowed(f"nothing is being done to the tenant {tenant_id}")
    if found.job is not None and overseer.leaves_alone(found.job):
        raise NotAllowed(
            f"the job {found.job.id} is a dry run's, whose next sweep ends it: have one over this "
            "ledger, with builders.dry_run, or go on with an empty one"
            if found.job.is_dry
            else f"the job {found.job.id} was started for real, and this is a dry run"
        )
    wanted, number = found.operation_id, found.start_number
    given = f": {reason.rstrip('.')}" if reason else ""
    why = shorten(f"Cancelled by an operator{given}.")
    operation = await books.decide(lambda view: ask_to_stop(view, wanted, number, why))
    if operation is not None and operation.job is not None:
        on_certain()
    elif operation is not None:
        opener = await books.find_run(operation.opener)
        if opener is not None and opener.status is RunStatus.RETRY:
            # It is due by itself, and its next claim finds the reason; one that is at work may not.
            on_certain()
        if opener is not None and not opener.status.is_finished:
            try:
                with contextlib.suppress(Cancelled):
                    await resume(opener.run_id)
            except HandlerFailed:
                # What broke down has ended the operation by its records, or is tried again: then
                # a job of it may be under way that nobody has recorded yet.
                operation = await books.find_operation(wanted)
                if operation is not None and _is_open(operation):
                    raise
            else:
                on_certain()
            operation = await books.find_operation(wanted)
    if operation is not None and _is_open(operation):
        try:
            await overseer.stop(operation, why)
        except (PermanentError, HandlerFailed) as error:
            # It is kept with the outcome's run, and no business of whoever cancels.
            log.warning("the outcome's handler failed", reason=str(error))
        on_certain()
        operation = await books.find_operation(wanted)
    return operation is None or not _is_open(operation)


def _is_open(operation: OperationRecord) -> bool:
    return operation.state is OperationState.OPEN
