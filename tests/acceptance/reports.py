"""How the tests of reports end operations, and read what is reported to the control plane."""

from typing import Any

from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import Build, CodeBuildStandIn
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.answers import read_success
from tests.conftest import Client
from tests.control_plane.receiver import SECRET, ControlPlane

CONTEXT = "2f7c5d0a-53a1-4c77-9a3e-1d7f5c0b9e42"
PROVISIONED = "TENANT_PROVISIONING_SUCCESS"


async def provision(
    service: Client,
    control_plane: ControlPlane,
    *,
    tenant_id: str = "t-1",
    tier: str = "STANDARD",
    **override: Any,
) -> None:
    """A request whose outcome the control plane waits for."""
    await control_plane.expect(tenant_id, context=CONTEXT)
    override = {"secret": SECRET, "context": f"{CONTEXT}", **override}
    event = provisioning_event(
        tenant_id=tenant_id, tier=tier, event_id=f"p-{tenant_id}", override=override
    )
    await read_success(await service.post("/events", json=event))


def running(codebuild: CodeBuildStandIn) -> Build:
    (build,) = (one for one in codebuild.builds.values() if one.ended is None)
    return build


async def end(
    service: Client, codebuild: CodeBuildStandIn, status: Any = "SUCCEEDED", **how: Any
) -> None:
    """The only running build ends, and CodeBuild publishes its state change."""
    build = running(codebuild)
    codebuild.finish(build.id, status, **how)
    change = envelope(
        "CodeBuild Build State Change", build.as_state_change(), source="aws.codebuild"
    )
    answer = await service.post("/events", json={**change, "id": build.id})
    assert answer.status == 200, await answer.text()


async def sweep(service: Client) -> None:
    assert (await service.post("/events/RECONCILE", json={})).status == 200


async def tenant(service: Client, tenant_id: str = "t-1") -> dict[str, Any]:
    found: dict[str, Any] = await (await service.get(f"/tenants/{tenant_id}")).json()
    return found


async def why(service: Client) -> str:
    """The reason that the timeline gives for the operation's end."""
    outcomes = [
        run["reason"]
        for run in (await tenant(service))["timeline"]
        if run["eventType"].endswith(("_SUCCESS", "_FAILURE"))
        and not run["reason"].startswith("The job reports")
    ]
    (reason,) = outcomes
    return str(reason)


def body(status: int, *, resources: list[Any] | None = None, **data: Any) -> dict[str, Any]:
    return {
        "initiatorId": "t-1",
        "type": 0,
        "data": {"status": status, "resources": resources or [], **data},
    }


async def credentials_kept(service: Client) -> int:
    ledger = service.app[TRANSACTIONS].ledger
    assert isinstance(ledger, InMemoryLedger)
    return sum(getattr(item, "credentials", None) is not None for item in ledger._items.values())
