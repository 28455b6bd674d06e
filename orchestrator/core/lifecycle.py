"""The one table of legal moves: which event opens or ends what, and where the tenant goes.

The moves belong to the event type and are made by the orchestrator, whoever handles the
event.

    unseen ─► provisioning ─► provisioned ─► deploying ─► active ─► deprovisioning ─► deprovisioned
                   └─► provision_failed ─► cleaning_up
"""

from collections.abc import Mapping
from enum import StrEnum

import attrs

from orchestrator.core import events


class Kind(StrEnum):
    """What an operation does to its tenant."""

    PROVISIONING = "provisioning"
    DEPLOYMENT = "deployment"
    DEPROVISIONING = "deprovisioning"
    CLEAN_UP = "clean_up"


class TenantState(StrEnum):
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

#: The operation that an event of the type opens.
OPENS: Mapping[str, Kind] = {
    events.TENANT_PROVISIONING: Kind.PROVISIONING,
    events.TENANT_DEPLOYMENT: Kind.DEPLOYMENT,
    events.TENANT_DEPROVISIONING: Kind.DEPROVISIONING,
    events.TENANT_CLEAN_UP: Kind.CLEAN_UP,
}


@attrs.frozen
class Ending:
    """How an operation of a kind ends."""

    kind: Kind
    succeeded: bool


#: How an event of the type ends an operation.
ENDS: Mapping[str, Ending] = {
    events.TENANT_PROVISIONING_SUCCESS: Ending(Kind.PROVISIONING, True),
    events.TENANT_PROVISIONING_FAILURE: Ending(Kind.PROVISIONING, False),
    events.TENANT_DEPLOYMENT_SUCCESS: Ending(Kind.DEPLOYMENT, True),
    events.TENANT_DEPLOYMENT_FAILURE: Ending(Kind.DEPLOYMENT, False),
    events.TENANT_DEPROVISIONING_SUCCESS: Ending(Kind.DEPROVISIONING, True),
    events.TENANT_DEPROVISIONING_FAILURE: Ending(Kind.DEPROVISIONING, False),
    events.TENANT_CLEAN_UP_SUCCESS: Ending(Kind.CLEAN_UP, True),
    events.TENANT_CLEAN_UP_FAILURE: Ending(Kind.CLEAN_UP, False),
}


def outcome_type(kind: Kind, *, succeeded: bool) -> str:
    """The event type that ends an operation of the kind."""
    return next(name for name, ending in ENDS.items() if ending == Ending(kind, succeeded))
