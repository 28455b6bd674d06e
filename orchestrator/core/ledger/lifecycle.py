"""The states of a tenant, and the legal moves between them by kind of operation."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import attrs

from orchestrator.core.events.event_types import Kind


class TenantState(StrEnum):
    """Where a tenant is in its lifecycle, by its last operation."""

    PROVISIONING = "provisioning"
    PROVISIONED = "provisioned"
    PROVISION_FAILED = "provision_failed"
    CLEANING_UP = "cleaning_up"
    DEPLOYING = "deploying"
    ACTIVE = "active"
    DEPLOYMENT_FAILED = "deployment_failed"
    DEPROVISIONING = "deprovisioning"
    DEPROVISIONED = "deprovisioned"
    DEPROVISION_FAILED = "deprovision_failed"


#: Instead of a state: the first request of the tenant never began.
NO_STATE: Literal["none"] = "none"
StateName = TenantState | Literal["none"]


@attrs.frozen(kw_only=True)
class Moves:
    """The states of a tenant before (None: unseen), during and after an operation of a kind."""

    opens_from: frozenset[TenantState | None]
    during: TenantState
    succeeded: TenantState
    failed: TenantState


MOVES: Mapping[Kind, Moves] = {
    Kind.PROVISIONING: Moves(
        opens_from=frozenset({None, TenantState.PROVISION_FAILED, TenantState.DEPROVISIONED}),
        during=TenantState.PROVISIONING,
        succeeded=TenantState.PROVISIONED,
        failed=TenantState.PROVISION_FAILED,
    ),
    Kind.DEPLOYMENT: Moves(
        opens_from=frozenset(
            {None, TenantState.PROVISIONED, TenantState.ACTIVE, TenantState.DEPLOYMENT_FAILED}
        ),
        during=TenantState.DEPLOYING,
        succeeded=TenantState.ACTIVE,
        failed=TenantState.DEPLOYMENT_FAILED,
    ),
    Kind.DEPROVISIONING: Moves(
        opens_from=frozenset({None, *TenantState}) - {TenantState.DEPROVISIONED},
        during=TenantState.DEPROVISIONING,
        succeeded=TenantState.DEPROVISIONED,
        failed=TenantState.DEPROVISION_FAILED,
    ),
    Kind.CLEAN_UP: Moves(
        opens_from=frozenset({TenantState.PROVISION_FAILED}),
        during=TenantState.CLEANING_UP,
        succeeded=TenantState.PROVISION_FAILED,
        failed=TenantState.PROVISION_FAILED,
    ),
}

#: The states of tenants whose last operation failed.
FAILED_STATES = frozenset(moves.failed for moves in MOVES.values())

#: The states in which an operation holds a tenant.
HELD_STATES = frozenset(moves.during for moves in MOVES.values())
