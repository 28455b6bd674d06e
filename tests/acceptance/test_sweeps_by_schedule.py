"""A schedule's event is a sweep, by each entry point."""

import json
from typing import Any

import pytest

from orchestrator import Extension, Settings, TemporaryError, create_app
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.lambda_handler import LambdaService, SweepFailedError
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_problem
from tests.acceptance.orders import Seen, work_off
from tests.conftest import StartService
from tests.unit.core.events.shapes import sample
from tests.wrapped import sqs_record

SCHEDULES = {
    "Scheduler": sample("scheduler_default"),
    "rule": envelope("Scheduled Event", {}, source="aws.events"),
    "by name": {"detail-type": "RECONCILE", "detail": {}},
}
scheduled = pytest.mark.parametrize("raw", SCHEDULES.values(), ids=SCHEDULES.keys())


@scheduled
@pytest.mark.parametrize("path", ["/events", "/events/RECONCILE", "/events/Scheduled%20Event"])
async def test_a_schedule_sweeps_over_http(
    start_service: StartService,
    extension: Extension,
    clock: ManualClock,
    seen: Seen,
    raw: dict[str, Any],
    path: str,
) -> None:
    """A schedule's event resumes what is due, has no run, and is never a duplicate."""
    service = await start_service(extension=extension)
    await read_problem(await service.post("/events/WAITING", json={}), 503)
    for attempts in (1, 2):
        async with service.post(path, json=raw) as answer:
            assert answer.status == 200, await answer.text()
            assert not {"Location", "Idempotent-Replayed"} & answer.headers.keys()
        assert len(seen) == attempts
        clock.turn(60)


@scheduled
@pytest.mark.parametrize("way", ["direct", "event source", "Pipes"])
def test_a_schedule_sweeps_on_lambda(
    function: LambdaService,
    clock: ManualClock,
    seen: Seen,
    raw: dict[str, Any],
    way: str,
) -> None:
    """On Lambda a schedule sweeps with a queue or the function itself as its target."""
    records = [sqs_record(raw)]
    ways: dict[str, Any] = {"direct": raw, "event source": {"Records": records}, "Pipes": records}
    function.handle({"Records": [sqs_record(envelope("WAITING", {}))]}, remaining_s=30)
    clock.turn(60)
    answer: dict[str, Any] = function.handle(ways[way], remaining_s=30)
    assert answer in ({"success": True}, {"batchItemFailures": []})
    assert len(seen) == 2


@scheduled
async def test_a_schedule_sweeps_by_a_worker(
    settings: Settings,
    extension: Extension,
    clock: ManualClock,
    seen: Seen,
    raw: dict[str, Any],
) -> None:
    """A worker sweeps for the event of a schedule whose target is its queue."""
    inbox, ledger = InMemoryInbox(clock), InMemoryLedger()
    parts: dict[str, Any] = {"extension": extension, "clock": clock, "ledger": ledger}
    for event in (envelope("WAITING", {}), raw):
        await inbox.send(text=json.dumps(event), group="g", deduplication_id=str(event))
        await work_off(settings, inbox, **parts)
        clock.turn(60)
    assert len(seen) == 2


class DownLedger(InMemoryLedger):
    """A ledger that is unreachable."""

    async def load(self, keys: Any) -> Any:
        raise TemporaryError("no ledger")

    async def find_due(self, *args: Any, **options: Any) -> Any:
        raise TemporaryError("no ledger")


def test_a_sweep_that_fails_is_an_error_of_the_function(settings: Settings) -> None:
    """A sweep that fails is an error of the function, so that Lambda counts it and may retry it."""
    service = LambdaService(create_app(settings, ledger=DownLedger(), hands_back=True))
    try:
        with pytest.raises(SweepFailedError, match="the log says why"):
            service.handle(SCHEDULES["Scheduler"], remaining_s=30)
    finally:
        service.close()
