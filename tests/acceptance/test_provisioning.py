"""TENANT_PROVISIONING over HTTP, from the event to the build."""

from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import provisioning_event
from tests.conftest import Client


async def test_an_event_starts_the_build_that_its_tier_names(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The tier's job is started with its attributes, overlaid by the event's, sorted by name."""
    event = provisioning_event(tier="STANDARD", override={"POSTGRES_SIZE": "10"})
    answer = await service.post("/events/TENANT_PROVISIONING", json=event)

    assert answer.status == 200
    assert await answer.json() == {"success": True}
    (build,) = codebuild.builds.values()
    assert build.project == "standard-tenant"
    names = [variable["name"] for variable in build.overrides]
    assert names == sorted(names)
    values = {variable["name"]: variable["value"] for variable in build.overrides}
    assert values["ACCESS_TOKEN_EXPIRATION"] == "3600"
    assert values["POSTGRES_SIZE"] == "10"
