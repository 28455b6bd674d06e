"""Handles exceptions of a due item: logs, counts and records them, and postpones the item.

Used for each check of a job, each resumed run, each report and each removal of secrets. An
exception of one item never affects another.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from orchestrator.core.errors import OrchestratorError, TemporaryError
from orchestrator.core.ledger.postponing import postpone
from orchestrator.core.ledger.transactions import Transactions

Result = TypeVar("Result")

log = structlog.get_logger("orchestrator.guarding")


async def guarded(
    transactions: Transactions, key: str, work: Callable[[], Awaitable[Result]]
) -> Result | Exception:
    """The result of the work on the item, or its error.

    An exception counts as a bug of the item unless it is a TemporaryError, or an OrchestratorError
    that a run has recorded. After `runs.max_attempts` bugs the item is given up, with a reason.
    """
    try:
        return await work()
    except OrchestratorError as error:
        log.info("due item not done yet", due=key, reason=str(error))
        raised: Exception = error
        is_kept = error.run_id is not None
    except Exception as bug:
        # An exception of one item must not stop the others.
        log.error("due item failed", due=key, exc_info=bug)
        raised, is_kept = bug, False
    if not is_kept:
        await _put_off(transactions, key, raised)
    return raised


async def _put_off(transactions: Transactions, key: str, raised: Exception) -> None:
    bug = None if isinstance(raised, TemporaryError) else type(raised).__name__
    reason = str(raised) if bug is None else f"It failed with {bug}; the log has the cause."
    try:
        is_given_up = await transactions.run(
            lambda snapshot: postpone(snapshot, key, reason, bug, transactions.timings)
        )
    except OrchestratorError as error:
        log.info("not postponed", due=key, reason=str(error))
    except Exception as error:
        # The item stays due, and the others continue.
        log.error("not postponed", due=key, exc_info=error)
    else:
        if is_given_up:
            log.error("given up", due=key, reason=reason)
