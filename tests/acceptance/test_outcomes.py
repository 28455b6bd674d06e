"""How an operation ended, over HTTP: the six outcome types, and builds that aren't ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import envelope
from tests.acceptance.answers import only_build, read_run, read_success
from tests.conftest import Client

SAMPLES = Path(__file__).parents[1] / "samples"


def sample(name: str) -> dict[str, Any]:
    """An event as it was on the bus."""
    event: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return event


@pytest.mark.parametrize("outcome", ["SUCCESS", "FAILURE"])
@pytest.mark.parametrize(
    "operation", ["TENANT_PROVISIONING", "TENANT_DEPLOYMENT", "TENANT_DEPROVISIONING"]
)
async def test_every_outcome_is_taken_note_of(
    service: Client, codebuild: CodeBuildStandIn, operation: str, outcome: str
) -> None:
    """An outcome for a tenant that existed before the ledger is handled, and starts nothing."""
    event_type = f"{operation}_{outcome}"
    answer = await service.post("/events", json=envelope(event_type, {"tenantId": "t-1"}))
    run = await read_run(service, await read_success(answer))
    assert (run["eventType"], run["status"], run["tenantId"]) == (event_type, "succeeded", "t-1")
    assert not codebuild.builds


async def test_a_failure_report_needs_no_tenant(service: Client) -> None:
    """A build that fails in an early phase can't name its tenant yet, and is heard all the same."""
    detail = {"CODEBUILD_BUILD_ID": "standard-tenant:1", "CODEBUILD_BUILD_SUCCEEDING": "0"}
    event = envelope("TENANT_PROVISIONING_FAILURE", detail)
    await read_success(await service.post("/events", json=event))


@pytest.mark.parametrize("detail_type", ["BUILD_STATE_CHANGE", "CodeBuild Build State Change"])
@pytest.mark.parametrize("path", ["/events", "/events/{detail_type}"])
async def test_the_build_of_a_stranger_is_none_of_our_business(
    service: Client, codebuild: CodeBuildStandIn, detail_type: str, path: str
) -> None:
    """A build that we didn't start changes state: 200 under both names, and no build comes of it.

    A redelivery is as welcome.
    """
    event = {**sample("codebuild_build_state_change"), "detail-type": detail_type}
    for _ in range(2):
        answer = await service.post(path.format(detail_type=detail_type), json=event)
        assert answer.status == 200
        assert await answer.json() == {"success": True}
    assert not codebuild.calls


async def test_the_samples_in_their_natural_order(
    service: Client, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Request, the build's own report, CodeBuild's: each is answered 200, and one build started."""
    for name in ("tenant_provisioning", "build_self_report", "codebuild_build_state_change"):
        answer = await service.post("/events", json=sample(name))
        assert answer.status == 200, name
        assert await answer.json() == {"success": True}
    tier = sample("tenant_provisioning")["detail"]["planConfig"]["tier"]
    assert only_build(codebuild).project == settings.tiers.static[tier]["jobIdentifier"]
