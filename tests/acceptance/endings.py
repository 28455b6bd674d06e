"""What the tests of endings share: builds that end and report it, and what follows."""

import zlib
from typing import Any

from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import PayloadRecord
from orchestrator.embedded import Build
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.testing import envelope
from tests.acceptance.stories import DEPLOY, DEPROVISION, PROVISION, read_tenant
from tests.conftest import Client

#: The tenant's state after each kind of operation: succeeded, and failed.
ENDS = {
    PROVISION: ("provisioned", "provision_failed"),
    DEPLOY: ("active", "deployment_failed"),
    DEPROVISION: ("deprovisioned", "deprovision_failed"),
}
STATUSES = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed in BUILD",
    "FAULT": "broke down in BUILD",
    "TIMED_OUT": "timed out in BUILD",
    "STOPPED": "was stopped in BUILD",
}


async def post(service: Client, event: dict[str, Any]) -> str:
    """The address of the run that the event led to; "" if it led to none."""
    answer = await service.post("/events", json=event)
    assert answer.status == 200, await answer.text()
    return answer.headers.get("Location", "")


async def change_state(service: Client, build: Build, *, event_id: str = "change") -> str:
    change = build.as_state_change()
    return await post(service, envelope("CodeBuild Build State Change", change, event_id=event_id))


async def send_self_report(
    service: Client, build: Build, event_type: str, *, event_id: str = "told", **more: Any
) -> str:
    """The build reports on itself, with its whole environment."""
    environment = {one["name"]: one["value"] for one in build.overrides}
    detail = {**environment, "CODEBUILD_BUILD_ID": build.id, **more}
    return await post(service, envelope(event_type, detail, event_id=event_id))


async def outcome(service: Client) -> dict[str, Any]:
    """The one entry of the timeline that ended something."""
    entries = [
        entry
        for entry in (await read_tenant(service))["timeline"]
        if entry["eventType"].endswith(("_SUCCESS", "_FAILURE"))
        and entry["status"] != "duplicate"
        and not entry["reason"].startswith("The job reports")
    ]
    (entry,) = entries
    found: dict[str, Any] = entry
    return found


def read_ledger(service: Client) -> str:
    """All that the ledger stores, unpacked."""
    ledger = service.app[TRANSACTIONS].ledger
    assert isinstance(ledger, InMemoryLedger)
    return "\n".join(
        zlib.decompress(item.data).decode() if isinstance(item, PayloadRecord) else repr(item)
        for item in ledger._items.values()
    )
