"""The metrics for Prometheus: what is counted, by which labels, and who may read it."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, TemporaryError
from orchestrator.core.metrics import CATALOG, MetricType
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import ApiKey, Auth
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.endings import change_state
from tests.acceptance.stories import PROVISION, send, with_full_tier
from tests.conftest import Client, StartService
from tests.faulty_aws import FaultyAWS

Counted = Mapping[tuple[str, ...], float]


async def read_metrics(service: Client, **headers: str) -> dict[tuple[str, ...], float]:
    """The values by name and labels, each as `label=value`."""
    answer = await service.get("/metrics", headers=headers)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "text/plain"
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in text_string_to_metric_families(await answer.text())
        for sample in family.samples
    }


def of(counted: Counted, name: str) -> dict[tuple[str, ...], float]:
    """The values of one metric that aren't 0, by its labels."""
    return {
        labels: value
        for (found, *rest), value in counted.items()
        if found == f"orchestrator_{name}" and value
        for labels in [tuple(rest)]
    }


@pytest.fixture
async def full(start_service: StartService, settings: Settings) -> Client:
    return await start_service(with_full_tier(settings))


async def test_a_tenants_life_is_counted(
    full: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Events are counted by type and outcome, jobs by builder, and operations with their
    duration."""
    await send(full, PROVISION, "request")
    await send(full, PROVISION, "request")
    clock.turn(240)
    (build,) = codebuild.builds.values()
    codebuild.finish(build.id, "SUCCEEDED")
    await change_state(full, build)
    counted = await read_metrics(full)
    assert of(counted, "events_total") == {
        (f"event_type={PROVISION}", "outcome=succeeded"): 1,
        (f"event_type={PROVISION}", "outcome=duplicate"): 1,
        (f"event_type={PROVISION}_SUCCESS", "outcome=succeeded"): 1,
        ("event_type=BUILD_STATE_CHANGE", "outcome=succeeded"): 1,
    }
    assert of(counted, "jobs_started_total") == {("builder=CODE_BUILD",): 1}
    ended = ("kind=provisioning", "result=succeeded")
    assert of(counted, "operation_duration_seconds_count") == {ended: 1}
    assert of(counted, "operation_duration_seconds_sum") == {ended: 240}
    assert counted["orchestrator_event_duration_seconds_count", f"event_type={PROVISION}"] == 2


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (TemporaryError("busy"), "retry"),
        (RuntimeError("bug"), "error"),
        (None, "succeeded"),
    ],
)
async def test_the_outcome_label_tells_results_of_attempts_apart(
    start_service: StartService, raised: Exception | None, outcome: str
) -> None:
    """An outage, a bug and a success have different outcome labels."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        if raised is not None:
            raise raised

    service = await start_service(extension=Extension(registry=registry))
    await service.post("/events/ORDER", json={"a": 1})
    counted = await read_metrics(service)
    assert of(counted, "events_total") == {("event_type=ORDER", f"outcome={outcome}"): 1}


async def test_any_number_of_unknown_types_is_one_label(full: Client) -> None:
    """All unsupported types share one label, so that a sender can't fill Prometheus, and refusals
    are counted by status."""
    for number in range(5):
        await full.post(f"/events/INVENTED_{number}", json={"a": number})
    await full.post("/events", data=b"nonsense", headers={"Content-Type": "application/json"})
    counted = await read_metrics(full)
    unsupported = ("event_type=unsupported", "outcome=failed")
    assert of(counted, "events_total") == {unsupported: 5}
    assert of(counted, "refusals_total") == {("status=400", "what=request"): 6}
    assert "INVENTED" not in "".join("".join(key) for key in counted)


async def test_no_label_names_a_tenant_or_a_secret(full: Client) -> None:
    """No label has a value that a sender chooses."""
    await send(full, PROVISION, "chosen-id", tenant_id="chosen-tenant", secret="chosen-secret")
    text = await (await full.get("/metrics")).text()
    assert "orchestrator_events_total" in text
    assert "chosen" not in text


async def test_an_operation_that_never_began_is_given_back(full: Client) -> None:
    """An operation that ends before its job is counted as given back."""
    await send(full, PROVISION, "request", tier="NOWHERE")
    counted = await read_metrics(full)
    given_back = ("kind=provisioning", "result=given_back")
    assert of(counted, "operation_duration_seconds_count") == {given_back: 1}


async def test_the_time_of_the_last_successful_sweep_is_a_metric(
    full: Client, clock: ManualClock
) -> None:
    """The last successful sweep's time is a metric."""
    assert of(await read_metrics(full), "sweep_last_success_timestamp_seconds") == {}
    await full.post("/events/RECONCILE", json={})
    counted = await read_metrics(full)
    swept = counted[("orchestrator_sweep_last_success_timestamp_seconds",)]
    assert swept == clock.now().timestamp()


async def test_a_sweep_counts_what_is_under_way(
    full: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A sweep measures the open operations of each kind and the age of the oldest, which shows a
    stuck tenant."""
    await send(full, PROVISION, "first", tenant_id="t-1")
    clock.turn(600)
    await send(full, PROVISION, "second", tenant_id="t-2")
    clock.turn(60)
    await full.post("/events/RECONCILE", json={})
    counted = await read_metrics(full)
    assert of(counted, "operations_open") == {("kind=provisioning",): 2}
    assert of(counted, "operation_oldest_age_seconds") == {("kind=provisioning",): 660}
    for build in list(codebuild.builds.values()):
        codebuild.finish(build.id, "SUCCEEDED")
        await change_state(full, build, event_id=build.id)
    await full.post("/events/RECONCILE", json={})
    counted = await read_metrics(full)
    assert of(counted, "operations_open") == {}
    assert counted["orchestrator_operations_open", "kind=provisioning"] == 0
    assert of(counted, "operation_oldest_age_seconds") == {}


async def test_requests_to_aws_are_counted(
    start_service: StartService, in_dynamodb: Settings, aws: FaultyAWS
) -> None:
    """Requests to AWS are counted by service, operation and result, as many as AWS received."""
    service = await start_service(in_dynamodb)
    await send(service, PROVISION, "request")
    await send(service, PROVISION, "request")
    counted = await read_metrics(service)
    assert of(counted, "aws_requests_total") == {
        ("operation=TransactWriteItems", "result=ok", "service=dynamodb"): 2,
        ("operation=TransactWriteItems", "result=conflict", "service=dynamodb"): 1,
        ("operation=Query", "result=ok", "service=dynamodb"): 1,
        ("operation=StartBuild", "result=ok", "service=codebuild"): 1,
    }
    assert sum(of(counted, "aws_request_duration_seconds_count").values()) == len(aws.calls)
    assert of(counted, "ledger_conflicts_total") == {(): 1}
    assert of(counted, "tier_cache_total") == {("result=miss",): 1}


async def test_the_metrics_need_a_key(start_service: StartService, settings: Settings) -> None:
    """The metrics need a key in a header, like other data of the service."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",)))
    service = await start_service(attrs.evolve(settings, auth=auth))
    assert (await service.get("/metrics")).status == 401
    assert await read_metrics(service, **{"x-api-key": "key-1"})


async def test_each_metric_of_the_catalog_is_there(full: Client) -> None:
    """Each metric of the catalog is exposed with its type from the start."""
    text = await (await full.get("/metrics")).text()
    for metric in CATALOG:
        name = metric.name.removesuffix("_total")
        kind = metric.type.name.lower()
        suffix = "_total" if metric.type is MetricType.COUNTER else ""
        assert f"# TYPE {name}{suffix} {kind}\n" in text


async def test_two_apps_in_one_process_count_apart(start_service: StartService) -> None:
    """Two apps in one process have registries of their own, so that neither counts the other's
    events."""
    first, second = await start_service(), await start_service()
    await first.post("/events", json=envelope("NOTHING", {}))
    assert of(await read_metrics(first), "events_total")
    assert not of(await read_metrics(second), "events_total")
