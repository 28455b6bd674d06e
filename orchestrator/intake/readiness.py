"""Readiness checks: each runs at most once a second, however many requests `/readyz` gets.

The route needs no credentials, so its cost must not grow with the number of requests, and its
answer only names the check that failed: the log has the reason.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from orchestrator.core.clock import Clock
from orchestrator.core.errors import TemporaryError
from orchestrator.intake.app_keys import Check

#: How long a result is kept, from the check's start.
_KEPT = timedelta(seconds=1)

log = structlog.get_logger("orchestrator.readiness")


def share_checks(checks: Mapping[str, Check], clock: Clock) -> Mapping[str, Check]:
    """The same checks. Requests while one is in progress, or within a second of its start, share
    its result; it is cancelled once no request waits for it any more."""
    return {name: _SharedCheck(name, check, clock) for name, check in checks.items()}


class _SharedCheck:
    def __init__(self, name: str, check: Check, clock: Clock) -> None:
        self._name = name
        self._check = check
        self._clock = clock
        self._began_at: datetime | None = None
        self._task: asyncio.Task[bool] | None = None
        self._waiting = 0

    async def __call__(self) -> None:
        """Raises TemporaryError: the check failed."""
        task, began_at = self._task, self._began_at
        is_kept = began_at is not None and self._clock.now() - began_at < _KEPT
        if task is None or (task.done() and not is_kept):
            self._began_at = self._clock.now()
            task = self._task = asyncio.create_task(self._succeeds())
        self._waiting += 1
        try:
            await asyncio.wait({task})
        finally:
            self._waiting -= 1
            if not self._waiting:
                task.cancel()
        if task.cancelled() or not task.result():
            raise TemporaryError(f"The check {self._name!r} failed.")

    async def _succeeds(self) -> bool:
        try:
            await self._check()
        except TemporaryError as error:
            log.warning("not ready", check=self._name, reason=str(error))
            return False
        except Exception as error:
            log.error("not ready", check=self._name, exc_info=error)
            return False
        return True
