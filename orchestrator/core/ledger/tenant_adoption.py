"""Decides about a tenant that existed before the ledger did, in another system.

A plain function of a snapshot; `orchestrator adopt` runs it for each tenant of a file.
"""

import attrs

from orchestrator.core.events.body import MAX_NAME_BYTES
from orchestrator.core.ledger.guards import may_adopt
from orchestrator.core.ledger.lifecycle import HELD_STATES, TenantState
from orchestrator.core.ledger.records import TenantRecord
from orchestrator.core.ledger.snapshot import Decision, Snapshot


def _check_name(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    if not value.strip() or len(value.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"must have 1 to {MAX_NAME_BYTES} bytes as its {field.name}, and not only white space"
        )


def _check_at_rest(_: object, _field: "attrs.Attribute[TenantState]", state: TenantState) -> None:
    if state in HELD_STATES:
        raise ValueError(
            f"is {state}, in which an operation holds the tenant, and the ledger has none: adopt "
            "it once that is over"
        )


@attrs.frozen(kw_only=True)
class ExistingTenant:
    """A tenant as another system has it. `state` is one without an operation under way."""

    id: str = attrs.field(validator=_check_name)
    tier: str = attrs.field(validator=_check_name)
    state: TenantState = attrs.field(validator=_check_at_rest)


def adopt_tenant(snapshot: Snapshot, tenant: ExistingTenant) -> Decision[TenantRecord | None]:
    """Write the tenant with its state and tier; a known one is returned, and stays as it is."""
    known = snapshot.tenant(tenant.id, expect_absent=True)
    if not may_adopt(known):
        return Decision((), known)
    adopted = TenantRecord(
        tenant_id=tenant.id, state=tenant.state, changed_at=snapshot.now, tier=tenant.tier
    )
    return Decision((adopted,), None)
