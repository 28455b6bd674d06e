"""The only line of an event in the log: its fields at the end."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator import Event, Extension, HandlerRegistry, PermanentError, Run, Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.stories import PROVISION, send, with_full_tier
from tests.conftest import Client, StartService

Line = MutableMapping[str, Any]


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
async def full(start_service: StartService, settings: Settings) -> Client:
    return await start_service(with_full_tier(settings))


def events(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["event"] in ("settled", "answered")]


async def test_a_run_has_one_line_with_all_that_is_known(
    full: Client, codebuild: CodeBuildStandIn, lines: list[Line]
) -> None:
    """The line of a run has tenant, operation, tier, builder and job, attempt and duration, and the
    sender's trace."""
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    detail = {"tenantId": "t-1", "tier": "FULL"}
    answer = await full.post("/events", json=envelope(PROVISION, detail), headers=trace)
    (build,) = codebuild.builds.values()
    (line,) = events(lines)
    run_id = answer.headers["Location"].removeprefix("/runs/")
    operation_id = line.pop("operation_id")
    assert line == {
        "event": "settled",
        "log_level": "info",
        "outcome": "succeeded",
        "status": "succeeded",
        "event_type": PROVISION,
        "tenant_id": "t-1",
        "run_id": run_id,
        "attempt": 1,
        "duration_s": 0.0,
        "waited_s": 0.0,
        "kind": "provisioning",
        "tier": "FULL",
        "builder": "CODE_BUILD",
        "job_id": build.id,
        "aws_requests": 1,
        "trace": trace["traceparent"],
    }
    start_key = next(one["value"] for one in build.overrides if "RUN_ID" in one["name"])
    assert start_key.startswith(operation_id)


async def test_the_line_of_an_attempt_has_how_long_it_waited(
    full: Client, clock: ManualClock, lines: list[Line]
) -> None:
    """The line of an attempt has the time since the first delivery, and that of a waiting one the
    reason."""
    await send(full, PROVISION, "first")
    await send(full, "TENANT_DEPROVISIONING", "second")
    (line,) = events(lines)[1:]
    assert line["event"] == "answered"
    assert (line["outcome"], line.get("status")) == ("waiting", None)
    assert line["reason"] == "The tenant t-1 is busy with its provisioning."
    await send(full, f"{PROVISION}_SUCCESS", "end")
    clock.turn(20)
    await full.post("/events/RECONCILE", json={})
    (line,) = (one for one in events(lines) if one.get("attempt") == 2)
    assert (line["outcome"], line["waited_s"]) == ("succeeded", 20)


async def test_the_line_of_a_failure_has_the_reason(
    start_service: StartService, lines: list[Line]
) -> None:
    """The line of a failure has the reason that the sender receives."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        raise PermanentError("There is no such article.")

    service = await start_service(extension=Extension(registry=registry))
    await service.post("/events/ORDER", json={"a": 1})
    (line,) = events(lines)
    assert (line["outcome"], line["reason"]) == ("failed", "There is no such article.")


async def test_a_duplicate_names_the_run_that_answered_it(full: Client, lines: list[Line]) -> None:
    """The line of a request that joins an operation names the run that opened it."""
    await send(full, PROVISION, "first")
    await send(full, PROVISION, "second")
    first, second = events(lines)
    assert (second["outcome"], second["answered_by"]) == ("duplicate", first["run_id"])


async def test_a_trace_may_come_in_a_cloudevent(full: Client, lines: list[Line]) -> None:
    """The trace of a CloudEvent's extension is in its line; a text that is too long is ignored."""
    event = {"specversion": "1.0", "type": "ORDER", "source": "s", "id": "1", "data": {}}
    headers = {"Content-Type": "application/cloudevents+json"}
    await full.post("/events", json={**event, "traceparent": "00-1-2-01"}, headers=headers)
    await full.post("/events", json={**event, "id": "2", "traceparent": "x" * 513}, headers=headers)
    assert [line.get("trace") for line in events(lines)] == ["00-1-2-01", None]
