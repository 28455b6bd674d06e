"""An orchestrator whose handler of ORDER does what the test says."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import pytest

from orchestrator import Job, Run, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.dispatch.orchestrator import EventOrchestrator
from orchestrator.core.ledger.records import RunRecord
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope
from tests.ledgers import find_run

Act = Callable[[Run], Awaitable[None]]


class NoJobBuilder:
    """A builder that returns no job for a start."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        return None


@attrs.define
class BusyBuilder:
    """A builder that can never take a job now."""

    asked: list[tuple[str, str, Mapping[str, Any]]] = attrs.field(factory=list)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        self.asked.append((job_identifier, start_key, dict(params)))
        raise TemporaryError("busy", nothing_done=True)


@attrs.define
class Desk:
    """An orchestrator whose handler of ORDER does what the test says."""

    orchestrator: EventOrchestrator
    ledger: InMemoryLedger
    builder: InMemoryBuilder
    busy: BusyBuilder
    clock: ManualClock
    acts: list[Act]
    runs: list[Run]

    async def deliver(
        self, act: Act, *, event_id: str = "order-1", fails: type[Exception] | None = None
    ) -> RunRecord:
        """Deliver the order once, let `act` handle it, and return its run."""
        self.acts.append(act)
        order = envelope("ORDER", {"tenantId": "t-1"}, event_id=event_id)
        if fails is None:
            await self.orchestrator.handle_event("ORDER", order)
        else:
            with pytest.raises(fails):
                await self.orchestrator.handle_event("ORDER", order)
        record = await find_run(self.ledger, self.runs[-1].run_id)
        assert record is not None
        return record
