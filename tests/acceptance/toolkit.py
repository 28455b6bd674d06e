"""The SaaS Builder Toolkit's events, as its two planes send them, for one tenant."""

import copy
import json
from pathlib import Path
from typing import Any

from orchestrator.testing import envelope
from tests.acceptance.answers import read_success
from tests.conftest import Client

SAMPLES = Path(__file__).parents[1] / "samples"
ONBOARDING = json.loads((SAMPLES / "sbt_onboarding_request.json").read_text())
RESULT = json.loads((SAMPLES / "sbt_provision_success.json").read_text())
TENANT: str = ONBOARDING["detail"]["tenantId"]
REGISTRATION: str = ONBOARDING["detail"]["tenantRegistrationId"]
CONTROL_PLANE = "sbt.control.plane"
APPLICATION_PLANE = "sbt.application.plane"


def toolkit_event(
    name: str, detail: dict[str, Any], *, source: str = CONTROL_PLANE, event_id: str | None = None
) -> dict[str, Any]:
    return envelope(f"sbt_aws_{name}", detail, event_id=event_id or name, source=source)


def onboarding(event_id: str = "onboardingRequest", **changes: Any) -> dict[str, Any]:
    """The sample's request for the tier FULL, with other fields in its detail."""
    detail = {**ONBOARDING["detail"], "tier": "FULL", **changes}
    detail = {name: value for name, value in detail.items() if value is not None}
    return toolkit_event("onboardingRequest", detail, event_id=event_id)


def result(
    name: str, event_id: str | None = None, *, of: str = REGISTRATION, **more: Any
) -> dict[str, Any]:
    """The result that a script job of the toolkit publishes, which names the registration alone."""
    detail = {**copy.deepcopy(RESULT["detail"]), "tenantRegistrationId": of, **more}
    return toolkit_event(name, detail, source=APPLICATION_PLANE, event_id=event_id)


async def post(service: Client, event: dict[str, Any]) -> str:
    return await read_success(await service.post("/events", json=event))


async def tenants(service: Client) -> list[str]:
    answer = await service.get("/tenants")
    return [tenant["tenantId"] for tenant in (await answer.json())["items"]]
