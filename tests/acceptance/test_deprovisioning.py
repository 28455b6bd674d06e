"""TENANT_DEPROVISIONING over HTTP, from the event to the build."""

from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import envelope
from tests.acceptance.answers import only_build, read_problem, read_success, variables
from tests.conftest import Client


async def test_the_tiers_deprovisioning_job_is_started(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A tenant that is unseen is deprovisioned by the job that its tier names."""
    body = {"tenantId": "t-1", "planConfig": {"tier": "STANDARD"}}
    await read_success(await service.post("/events", json=envelope("TENANT_DEPROVISIONING", body)))
    build = only_build(codebuild)
    assert build.project == "standard-tenant-teardown"
    assert variables(build)["VPC_ID"] == "vpc-2"


async def test_a_tier_without_a_deprovisioning_job_is_refused(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """Without a deprovisioning job the request is refused, and the provisioning job isn't started
    instead."""
    body = {"tenantId": "t-1", "planConfig": {"tier": "BASIC"}}
    answer = await service.post("/events/TENANT_DEPROVISIONING", json=body)
    problem = await read_problem(answer, 422)
    assert problem["detail"] == "Builder Job name not found in plan details"
    assert not codebuild.builds
