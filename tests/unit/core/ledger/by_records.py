"""What the tests of runs that end by their records share."""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.core.events.event import OWN_SOURCE, Event
from orchestrator.core.ledger.lease import RunLease, claim_by_records
from orchestrator.core.ledger.records import RunRecord
from tests.desk import PROVISIONED, Desk, event


def our_outcome(opener: RunLease, event_type: str = PROVISIONED) -> Event[Mapping[str, Any]]:
    """The event of our own that ends the present start of what the run has opened."""
    key = opener.start_key
    return attrs.evolve(event(event_type, key), source=OWN_SOURCE, ends_start=key)


async def last_attempt(desk: Desk, run: RunRecord) -> RunLease:
    """The attempt that ends the run by its records; it has found its operation."""
    last = await claim_by_records(desk.transactions, run.run_id)
    assert last is not None
    await last.go_on_by_records()
    return last
