"""The migration from arc-saas, from end to end, and back again: docs/migration.md."""

import json
import re
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from orchestrator import Settings
from orchestrator.cli.adopt import Adoption
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.embedded import Build
from orchestrator.parts import open_transactions
from orchestrator.settings import Builders, Callback, Http, LedgerSettings
from orchestrator.testing import ManualClock, envelope
from orchestrator.wire.converter import JsonConverter
from tests.acceptance.answers import read_problem, read_run, read_success, variables
from tests.acceptance.old_deployment import (
    PROVISION,
    PROVISIONED,
    OldDeployment,
    report_of,
    request_for,
)
from tests.acceptance.stories import FULL, read_tenant, state_of, sweep
from tests.conftest import Client, StartService
from tests.control_plane.receiver import ControlPlane
from tests.faulty_aws import FaultyAWS

#: The variables that the service adds to a build's.
ADDED = {"ORCHESTRATOR_PROJECT", "ORCHESTRATOR_RUN_ID", "TRACEPARENT"}
#: The path of the newest message bus connector.
CONNECTOR = "/event-bridge/events"


@attrs.frozen
class World:
    """The old deployment, and what both deployments share."""

    old: OldDeployment
    old_api: Client
    control_plane: ControlPlane

    async def ask(self, api: Client, path: str, tenant_id: str) -> Any:
        """The control plane requests a tenant, and waits for its outcome."""
        await self.control_plane.expect(tenant_id, context=f"c-{tenant_id}")
        return await api.post(f"{path}/{PROVISION}", json=request_for(tenant_id))

    async def report_success(self, api: Client, path: str, build: Build, tenant_id: str) -> None:
        """The build has succeeded, and its script reports it."""
        self.old.codebuild.finish(build.id, "SUCCEEDED")
        answer = await api.post(f"{path}/{PROVISIONED}", json=report_of(build, tenant_id))
        assert answer.status == 200, await answer.text()

    async def reported_tenants(self) -> list[str]:
        """The tenants whose reports the control plane has accepted."""
        return [one["initiatorId"] for one in await self.control_plane.accepted()]

    def build_of(self, tenant_id: str) -> Build:
        """The only build of the tenant."""
        (build,) = (
            build
            for build in self.old.codebuild.builds.values()
            if json.loads(variables(build)["tenant"])["id"] == tenant_id
        )
        return build


@pytest.fixture
async def world(
    start_service: StartService,
    aws: FaultyAWS,
    control_plane: ControlPlane,
    clock: ManualClock,
    aiohttp_client: Any,
) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        old = OldDeployment(aws.aws.codebuild, clock, control_plane.url, http)
        yield World(old, await aiohttp_client(old.app()), control_plane)


@pytest.fixture
def configured(in_dynamodb: Settings, control_plane: ControlPlane) -> Settings:
    return attrs.evolve(
        in_dynamodb,
        callback=Callback(url=control_plane.url, after="provisioning", timeout_s=30),
        http=Http(event_paths=(CONNECTOR,)),
    )


async def adopt(settings: Settings, *tenants: dict[str, str]) -> str:
    adoption = Adoption(structure=JsonConverter(Redactor()), dry_run=False, show=print, warn=print)
    async with open_transactions(settings) as transactions:
        await adoption.run(StringIO("\n".join(map(json.dumps, tenants))), transactions)
    return adoption.summary()


async def test_a_deployment_moves_over_and_back(
    world: World, start_service: StartService, configured: Settings
) -> None:
    """Each tenant has one build and one report, whichever deployment began and ended it."""
    # The old deployment: one tenant is provisioned, the build of another one runs.
    await world.ask(world.old_api, "/events", "before")
    await world.report_success(world.old_api, "/events", world.build_of("before"), "before")
    await world.ask(world.old_api, "/events", "between")
    assert await world.reported_tenants() == ["before"]

    # Beside it, a dry run gets the same events: it starts nothing, and would start the same.
    dry = attrs.evolve(
        configured, ledger=LedgerSettings(backend="memory"), builders=Builders(dry_run=True)
    )
    beside = await start_service(dry)
    address = await read_success(await world.ask(beside, "/events", "between"))
    request = (await read_run(beside, address))["job"]["request"]
    assert request["projectName"] == world.build_of("between").project
    would_be = {one["name"]: one["value"] for one in request["environmentVariablesOverride"]}
    # Secrets are masked in the record, and the tenant is printed as JavaScript does.
    expected = {**variables(world.build_of("between")), "secret": "***"}
    would_be["tenant"] = json.dumps(json.loads(would_be["tenant"]))
    assert {name: value for name, value in would_be.items() if name not in ADDED} == expected

    # The switch: tenants without an open operation are adopted, the rules target the service.
    here = {"id": "before", "tier": "FULL", "state": "active"}
    under_way = {"id": "between", "tier": "FULL", "state": "provisioning"}
    assert await adopt(configured, here, under_way) == "1 adopted, 0 known before, 1 refused"
    assert await adopt(configured, here) == "0 adopted, 1 known before, 0 refused"
    world.old.reports = False
    service = await start_service(configured)
    assert await state_of(service, "before") == "active"
    refused = await read_problem(await world.ask(service, "/events", "before"), 422)
    assert "already active" in refused["detail"]

    # The build that the old deployment started: its state change is ignored, its report counts.
    build = world.build_of("between")
    await world.report_success(service, CONNECTOR, build, "between")
    change = envelope("CodeBuild Build State Change", build.as_state_change(), event_id="change")
    answer = await service.post(f"{CONNECTOR}/BUILD_STATE_CHANGE", json=change)
    assert answer.status == 200
    assert await state_of(service, "between") == "provisioned"
    assert await world.reported_tenants() == ["before", "between"]

    # A tenant of the new deployment, delivered twice, and the end of one that was adopted.
    for _ in range(2):
        await read_success(await world.ask(service, CONNECTOR, "after"))
    assert world.build_of("after").project == build.project
    leaving = envelope("TENANT_DEPROVISIONING", {"tenant": {"id": "before"}}, event_id="leave")
    await read_success(await service.post("/events/TENANT_DEPROVISIONING", json=leaving))
    assert (await read_tenant(service, "before"))["tier"] == "FULL"
    assert await state_of(service, "before") == "deprovisioning"

    # Back: the old deployment gets the events again, also of builds that the service has started.
    world.old.reports = True
    await world.report_success(world.old_api, "/events", world.build_of("after"), "after")
    await world.ask(world.old_api, "/events", "later")
    await world.report_success(world.old_api, "/events", world.build_of("later"), "later")
    assert await world.reported_tenants() == ["before", "between", "after", "later"]

    # A service that still runs reports its own operations, which the control plane refuses.
    await sweep(service)
    assert await state_of(service, "after") == "provisioned"
    assert await world.reported_tenants() == ["before", "between", "after", "later"]


async def test_the_ported_handler_starts_what_the_old_one_did(
    world: World, start_service: StartService, configured: Settings
) -> None:
    """The handler of docs/migration.md, run as it is there, starts the same build as the old
    one."""
    page = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "ported"}
    exec(snippet, names)  # noqa: S102 - our own page
    service = await start_service(configured, extension=names["extension"])
    await read_success(await world.ask(service, "/events", "new"))
    await world.ask(world.old_api, "/events", "old")
    new, old = variables(world.build_of("new")), variables(world.build_of("old"))
    assert world.build_of("new").project == world.build_of("old").project
    # The tier's other jobs, which the handler passes on as the example does with all attributes.
    added = ADDED | FULL.keys()
    differing = {"tenant", "context"}
    assert {n: v for n, v in new.items() if n not in added | differing} == {
        n: v for n, v in old.items() if n not in differing
    }
