"""How a handler is tested: the service in memory, a clock that the test turns, no AWS.

python -m pytest examples/test_registration.py
"""

import pytest
import registration

from orchestrator import Extension
from orchestrator.testing import EventBridgeSimulator, InMemoryBuilder, InMemoryPublisher
from orchestrator.testing.plugin import OrchestratorClient, SettleAll

pytest_plugins = ["orchestrator.testing.plugin"]
pytestmark = pytest.mark.asyncio

REGISTRATION = {"tenantId": "bluebird", "email": "ada@bluebird.example", "plan": "STANDARD"}


@pytest.fixture
def orchestrator_extension() -> Extension:
    return Extension(registry=registration.registry)


async def test_a_registration_becomes_a_tenant(
    orchestrator_app: OrchestratorClient,
    builder: InMemoryBuilder,
    publisher: InMemoryPublisher,
    settle_all: SettleAll,
) -> None:
    answer = await orchestrator_app.post("/events/TENANT_REGISTRATION", json=REGISTRATION)
    assert answer.status == 200
    assert publisher.published[0]["detail-type"] == "TENANT_REGISTERED"

    await settle_all()

    assert [one.job.job_identifier for one in builder.started] == [
        "provision-tenant",
        "deploy-tenant",
    ]
    answer = await orchestrator_app.get("/tenants/bluebird")
    assert (await answer.json())["state"] == "active"


async def test_a_wrong_address_is_refused_for_good(
    orchestrator_app: OrchestratorClient, publisher: InMemoryPublisher
) -> None:
    answer = await orchestrator_app.post(
        "/events/TENANT_REGISTRATION", json={**REGISTRATION, "email": "ada"}
    )
    assert answer.status == 422
    assert publisher.published == []


async def test_duplicates_and_late_deliveries_change_nothing(
    event_bridge: EventBridgeSimulator, publisher: InMemoryPublisher, settle_all: SettleAll
) -> None:
    event_bridge.duplicates, event_bridge.disorder_s = 1.0, 3600
    event = {"id": "e-1", "source": "shop", "detail-type": "TENANT_REGISTRATION"}
    deliveries = await event_bridge.deliver([{**event, "detail": REGISTRATION}])
    await settle_all()
    assert deliveries.dead_letters == []
    published = [one["detail-type"] for one in publisher.published]
    assert published.count("TENANT_REGISTERED") == published.count("TENANT_PROVISIONING") == 1
