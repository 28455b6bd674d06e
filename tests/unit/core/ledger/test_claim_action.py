"""What is done with an event whose run is there already: the table says it for each case."""

import re

import pytest

from orchestrator.core.ledger import claim_action
from orchestrator.core.ledger.claim_action import ACTIONS, Action, Found
from orchestrator.core.ledger.claim_request import Trigger

ROWS = {
    "is unfinished, and due": Found.DUE,
    "is unfinished, and not due": Found.NOT_DUE,
    "has failed": Found.FAILED,
    "was cancelled": Found.CANCELLED,
    "is done": Found.DONE,
    "is finished, and the content counts as new": Found.NEW_EVENT,
}
COLUMNS = [
    Trigger.DELIVERY,
    Trigger.SWEEP,
    Trigger.REPLAY,
    Trigger.FORCED_REPLAY,
    Trigger.CANCEL,
]
WORDS = {
    "resumes it": Action.RESUME,
    "restarts it": Action.RESTART,
    "begins it anew": Action.BEGIN_ANEW,
    "leaves it": Action.LEAVE,
    "is refused": Action.REFUSE,
    "is a duplicate": Action.DUPLICATE,
    "finds it over": Action.DUPLICATE,
    "needs force": Action.NEED_FORCE,
}


@pytest.mark.parametrize("found", Found, ids=lambda found: found.name)
def test_the_table_of_claim_actions(found: Found) -> None:
    """Each run that is found and each trigger has the action that the module's table shows."""
    page = claim_action.__doc__ or ""
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in re.findall(r"^\|.*", page, re.MULTILINE)
    ]
    (shown,) = [cells for name, *cells in rows if ROWS.get(name) is found]
    documented = {
        trigger: WORDS[cell] for trigger, cell in zip(COLUMNS, shown, strict=True) if cell
    }
    assert ACTIONS[found] == documented
    assert found is Found.NEW_EVENT or set(documented) == set(Trigger)
