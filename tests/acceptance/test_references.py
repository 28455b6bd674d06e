"""References to secrets in events and tiers, and the names that they may have."""

from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Tiers
from orchestrator.testing import provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.stories import FULL, list_runs
from tests.conftest import Client, StartService

KEPT = "/orchestrator/x/op-1/1/secret"
NAMES = [
    KEPT,
    KEPT.removeprefix("/"),
    f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{KEPT}-AbCdEf",
    f"arn:aws:ssm:us-east-1:123456789012:parameter{KEPT}",
]


def reference(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "value": name}


def given(codebuild: CodeBuildStandIn, name: str) -> Any:
    return next(one for one in only_build(codebuild).overrides if one["name"] == name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["SECRETS_MANAGER", "PARAMETER_STORE"])
async def test_an_event_that_refers_to_what_the_service_keeps_is_refused(
    service: Client, codebuild: CodeBuildStandIn, kind: str, name: str
) -> None:
    """An event that refers to a secret of the service, which may be another tenant's, is a 422 that
    names the variable."""
    event = provisioning_event(override={"MINE": reference(kind, name)})
    problem = await read_problem(await service.post("/events", json=event), 422)
    assert [error["path"] for error in problem["errors"]] == [
        "$.builderConfig.config.environmentOverride.MINE"
    ]
    assert codebuild.builds == {}
    (run,) = await list_runs(service)
    assert run["status"] == "failed"
    assert (await (await service.get("/tenants/tenant-1")).json())["state"] is None


async def test_other_references_are_passed_on(service: Client, codebuild: CodeBuildStandIn) -> None:
    """A reference to any other secret is passed on."""
    event = provisioning_event(override={"MINE": reference("SECRETS_MANAGER", "/theirs/db")})
    await read_success(await service.post("/events", json=event))
    assert given(codebuild, "MINE")["value"] == "/theirs/db"


async def test_a_tier_may_refer_to_anything(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A tier, which the operator writes, may refer to any secret."""
    full = {**FULL, "SHARED": reference("PARAMETER_STORE", "/orchestrator/shared")}
    tiers = Tiers(backend="static", static={"FULL": full})
    service = await start_service(attrs.evolve(settings, tiers=tiers))
    await read_success(await service.post("/events", json=provisioning_event(tier="FULL")))
    assert given(codebuild, "SHARED")["value"] == "/orchestrator/shared"
