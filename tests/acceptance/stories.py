"""Helpers for tests of a tenant's life: send an event, sweep, read the state."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import attrs
import pytest
from aiohttp import ClientResponse

from orchestrator import Settings
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.embedded import EmbeddedAWS, open_embedded_aws
from orchestrator.settings import LedgerSettings, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_problem, read_success
from tests.conftest import CODEBUILD

TENANT = "t-1"
#: A tier with a job for each operation.
FULL = {
    "jobIdentifier": "standard-tenant",
    "deploymentJobIdentifier": "premium-tenant-deployment",
    "deprovisioningJobIdentifier": "standard-tenant-teardown",
}

PROVISION = "TENANT_PROVISIONING"
DEPLOY = "TENANT_DEPLOYMENT"
DEPROVISION = "TENANT_DEPROVISIONING"
OPENING = (PROVISION, DEPLOY, DEPROVISION)

#: The events that bring a tenant into each state, with a job for each operation.
WAYS_INTO: Mapping[str, tuple[str, ...]] = {
    "unseen": (),
    "provisioning": (PROVISION,),
    "provisioned": (PROVISION, f"{PROVISION}_SUCCESS"),
    "provision_failed": (PROVISION, f"{PROVISION}_FAILURE"),
    "deploying": (DEPLOY,),
    "active": (DEPLOY, f"{DEPLOY}_SUCCESS"),
    "deployment_failed": (DEPLOY, f"{DEPLOY}_FAILURE"),
    "deprovisioning": (DEPROVISION,),
    "deprovisioned": (DEPROVISION, f"{DEPROVISION}_SUCCESS"),
    "deprovision_failed": (DEPROVISION, f"{DEPROVISION}_FAILURE"),
}


def with_full_tier(settings: Settings) -> Settings:
    """Settings whose only tier is FULL."""
    return attrs.evolve(settings, tiers=Tiers(backend="static", static={"FULL": FULL}))


async def send(
    service: Any,
    event_type: str,
    event_id: str,
    *,
    tenant_id: str = TENANT,
    ends: bool = True,
    **body: Any,
) -> ClientResponse:
    """Deliver an event about a tenant; a request names the tier FULL unless it says otherwise.

    The tenant's build ends as an outcome says, unless `ends` is False: CodeBuild's answer
    counts.
    """
    if ends:
        end_builds(service, event_type, tenant_id)
    tier = "FULL" if event_type in OPENING else None
    detail = {"tenantId": tenant_id, "tier": tier, **body}
    detail = {name: value for name, value in detail.items() if value is not None}
    answer: ClientResponse = await service.post(
        "/events", json=envelope(event_type, detail, event_id=event_id)
    )
    return answer


def end_builds(service: Any, event_type: str, tenant_id: str = TENANT) -> None:
    """End the tenant's running builds as the event says, if it is an outcome."""
    if not event_type.endswith(("_SUCCESS", "_FAILURE")) or CODEBUILD not in service.app:
        return
    for build in service.app[CODEBUILD].builds.values():
        passed = next(one["value"] for one in build.overrides if one["name"] == "tenant")
        if build.ended is None and json.loads(passed)["id"] == tenant_id:
            status = "SUCCEEDED" if event_type.endswith("_SUCCESS") else "FAILED"
            service.app[CODEBUILD].finish(build.id, status)


async def bring_into(service: Any, state: str, *, tenant_id: str = TENANT) -> str:
    """Bring a tenant into a state; returns the address of the last run."""
    address = ""
    for number, event_type in enumerate(WAYS_INTO[state]):
        event_id = f"before-{number}"
        address = await read_success(await send(service, event_type, event_id, tenant_id=tenant_id))
    if state != "unseen":
        assert (await read_tenant(service, tenant_id))["state"] == state
    return address


async def sweep(service: Any) -> None:
    """Have the service resume what is due; a sweep has no run."""
    answer = await service.post("/events/RECONCILE", json={})
    assert answer.status == 200, await answer.text()
    assert await answer.json() == {"success": True}
    assert not {"Location", "Idempotent-Replayed"} & set(answer.headers)


async def read_tenant(service: Any, tenant_id: str = TENANT) -> dict[str, Any]:
    answer = await service.get(f"/tenants/{tenant_id}")
    assert answer.status == 200, await answer.text()
    tenant: dict[str, Any] = await answer.json()
    return tenant


async def state_of(service: Any, tenant_id: str = TENANT) -> str:
    """The state of a tenant; one that the ledger has no record of is unseen."""
    answer = await service.get(f"/tenants/{tenant_id}")
    if answer.status == 404:
        return "unseen"
    return str((await answer.json())["state"] or "unseen")


async def list_runs(service: Any, **query: str) -> list[dict[str, Any]]:
    """The runs that match, the latest first."""
    answer = await service.get("/runs", params=query)
    assert answer.status == 200, await answer.text()
    runs: list[dict[str, Any]] = (await answer.json())["items"]
    return runs


async def replay(service: Any, address: str, **body: Any) -> ClientResponse:
    """Replay the run at an address."""
    answer: ClientResponse = await service.post(f"{address}/replay", json=body)
    return answer


def later(clock: ManualClock, seconds: float) -> str:
    """The time so many seconds from now, in the form of answers."""
    return (clock.now() + timedelta(seconds=seconds)).isoformat()


def is_replay(answer: ClientResponse) -> bool:
    """Whether the answer says that an earlier delivery was handled."""
    return answer.headers.get("Idempotent-Replayed") == "true"


async def read_wait(answer: ClientResponse, *, pause_s: int | None = None) -> str:
    """The address of a run that is retried later, by a sweep or a redelivery."""
    address: str = (await read_problem(answer, 503))["instance"]
    assert address.startswith("/runs/"), address
    if pause_s is not None:
        assert answer.headers["Retry-After"] == str(pause_s)
    return address


async def read_refusal(answer: ClientResponse, detail: str) -> str:
    """The address of a failed run."""
    problem = await read_problem(answer, 422)
    assert problem["detail"] == detail
    return str(problem["instance"])


@asynccontextmanager
async def open_ledger_table(
    monkeypatch: pytest.MonkeyPatch, table: str = LedgerSettings().table
) -> AsyncIterator[EmbeddedAWS]:
    """A DynamoDB with the ledger's table, which AWS's own variable leads to."""
    async with open_embedded_aws() as aws:
        await aws.prepare(
            tier_table="tier-details",
            tiers=[{"tier": "FULL", **FULL}],
            tables=[table_schema(table)],
            bus=None,
            projects=[],
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", aws.endpoint_url)
        yield aws


def over_dynamodb(settings: Settings) -> Settings:
    """The settings with the ledger in DynamoDB."""
    return attrs.evolve(settings, ledger=LedgerSettings(backend="dynamodb"))
