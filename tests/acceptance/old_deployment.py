"""An arc-saas deployment as it is before the switch: its orchestrator stores nothing.

Each event starts its job, and a build's report is passed to the control plane, as handlers do
after arc-saas's example.
"""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import attrs
from aiohttp import web

from orchestrator.core.callback.signature import sign_request
from orchestrator.embedded import Build, CodeBuildStandIn
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import variables
from tests.acceptance.stories import FULL
from tests.control_plane.receiver import SECRET

PROVISION = "TENANT_PROVISIONING"
PROVISIONED = "TENANT_PROVISIONING_SUCCESS"


@attrs.define
class OldDeployment:
    """`reports` is whether its handlers report to the control plane."""

    codebuild: CodeBuildStandIn
    clock: ManualClock
    webhook: str
    http: aiohttp.ClientSession
    reports: bool = True

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/events/{eventType}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.Response:
        detail = (await request.json())["detail"]
        match request.match_info["eventType"]:
            case "TENANT_PROVISIONING":
                await self._start(detail)
            case "TENANT_PROVISIONING_SUCCESS" if self.reports:
                await self._report(detail)
        return web.json_response({"success": True})

    async def _start(self, detail: Mapping[str, Any]) -> None:
        override = detail["builderConfig"]["config"]["environmentOverride"]
        # The item of its tier, without the other jobs, which arc-saas doesn't have.
        values = {"tier": "FULL", **override}
        passed = [{"name": name, "value": str(value)} for name, value in values.items()]
        headers = {
            "X-Amz-Target": "CodeBuild_20161006.StartBuild",
            "Content-Type": "application/x-amz-json-1.1",
        }
        start = {"projectName": FULL["jobIdentifier"], "environmentVariablesOverride": passed}
        async with self.http.post(
            self.codebuild.url, data=json.dumps(start), headers=headers
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def _report(self, detail: Mapping[str, Any]) -> None:
        body = {
            "initiatorId": detail["TENANT_ID"],
            "type": 0,
            "data": {"status": 1, "resources": [], "appPlaneUrl": "https://app.example"},
        }
        signed = sign_request(
            body, secret=detail["secret"], context=detail["context"], now=self.clock.now()
        )
        async with self.http.post(self.webhook, data=signed.text, headers=signed.headers):
            pass  # as in the example, whatever the answer


def request_for(tenant_id: str) -> dict[str, Any]:
    """The request that its control plane puts on the bus."""
    override = {"secret": SECRET, "context": f"c-{tenant_id}", "REDIS_NODES": "3"}
    return provisioning_event(
        tenant_id=tenant_id, tier="FULL", event_id=f"request-{tenant_id}", override=override
    )


def report_of(build: Build, tenant_id: str) -> dict[str, Any]:
    """The report that its builds put on the bus at their end: their whole environment."""
    detail = {
        **variables(build),
        "TENANT_ID": tenant_id,
        "CODEBUILD_BUILD_ID": build.id,
        "CODEBUILD_BUILD_SUCCEEDING": "1",
    }
    source = "saas.tenant.provisioning.codebuild"
    return envelope(PROVISIONED, detail, event_id=f"report-{build.id}", source=source)
