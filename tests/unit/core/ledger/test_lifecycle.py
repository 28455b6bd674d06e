"""The lifecycle: the table of legal moves, and the events that open and end operations."""

from collections.abc import Mapping

import pytest

from orchestrator.core.events.event_types import ENDS, OPENS, Ending, Kind, outcome_type
from orchestrator.core.ledger.lifecycle import MOVES, TenantState

UNSEEN = "unseen"
#: From where each kind opens (docs/contract, section 3).
OPENS_FROM: Mapping[str, set[str]] = {
    "provisioning": {UNSEEN, "provision_failed", "deprovisioned"},
    "deployment": {UNSEEN, "provisioned", "active", "deployment_failed"},
    "deprovisioning": {
        UNSEEN,
        "provisioning",
        "provisioned",
        "provision_failed",
        "cleaning_up",
        "deploying",
        "active",
        "deployment_failed",
        "deprovisioning",
        "deprovision_failed",
    },
    "clean_up": {"provision_failed"},
}
#: The tenant's state during the operation, after its success and after its failure.
WAYS: Mapping[str, tuple[str, str, str]] = {
    "provisioning": ("provisioning", "provisioned", "provision_failed"),
    "deployment": ("deploying", "active", "deployment_failed"),
    "deprovisioning": ("deprovisioning", "deprovisioned", "deprovision_failed"),
    "clean_up": ("cleaning_up", "provision_failed", "provision_failed"),
}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("state", [None, *TenantState])
def test_a_kind_opens_from_these_states_and_no_other(kind: Kind, state: TenantState | None) -> None:
    """Each kind opens from the states of its row, and from no other."""
    assert (state in MOVES[kind].opens_from) is ((state or UNSEEN) in OPENS_FROM[kind])


@pytest.mark.parametrize("kind", list(Kind))
def test_a_kind_takes_its_tenant_there(kind: Kind) -> None:
    """The tenant's state during the operation, after its success and after its failure."""
    moves = MOVES[kind]
    assert (moves.during, moves.succeeded, moves.failed) == WAYS[kind]


def test_these_events_open_an_operation() -> None:
    """The four requests open an operation, and no other event does."""
    assert OPENS == {
        "TENANT_PROVISIONING": "provisioning",
        "TENANT_DEPLOYMENT": "deployment",
        "TENANT_DEPROVISIONING": "deprovisioning",
        "TENANT_CLEAN_UP": "clean_up",
    }


def test_these_events_end_one() -> None:
    """Each kind is ended well by one event and badly by another."""
    assert {name: (one.kind, one.succeeded) for name, one in ENDS.items()} == {
        f"TENANT_{kind}_{word}": (kind.lower(), succeeded)
        for kind in ("PROVISIONING", "DEPLOYMENT", "DEPROVISIONING", "CLEAN_UP")
        for word, succeeded in (("SUCCESS", True), ("FAILURE", False))
    }


@pytest.mark.parametrize(("event_type", "ending"), ENDS.items())
def test_an_outcome_has_its_event(event_type: str, ending: Ending) -> None:
    """The event type that reports an ending is found from the ending."""
    assert outcome_type(ending.kind, succeeded=ending.succeeded) == event_type
