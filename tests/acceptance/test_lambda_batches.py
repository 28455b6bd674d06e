"""Batches of an SQS queue in AWS Lambda: failed messages are named, and the others deleted.

The events are those of AWS's documentation (Lambda developer guide, Using Lambda with SQS).
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
    create_app,
)
from orchestrator.lambda_handler import LambdaService
from orchestrator.testing import envelope
from tests.acceptance.lambda_functions import Record, record


class Calls:
    """The calls of the handler, and how it answers them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.errors: dict[int, BaseException] = {}
        self.hangs: set[int] = set()
        self.stubborn: set[int] = set()
        self.release = asyncio.Event()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def service(settings: Settings, calls: Calls) -> Iterator[LambdaService]:
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        number = event.body["number"]
        calls.numbers.append(number)
        while number in calls.hangs:
            try:
                await calls.release.wait()
            except asyncio.CancelledError:
                if number not in calls.stubborn:
                    raise
        if number in calls.errors:
            raise calls.errors[number]

    service = LambdaService(
        create_app(settings, extension=Extension(registry=registry), hands_back=True)
    )
    yield service
    service.close()


def failed(service: LambdaService, *records: Record, remaining_s: float = 30) -> list[int]:
    """The numbers of the messages that stay in the queue."""
    answer = service.handle({"Records": list(records)}, remaining_s=remaining_s)
    assert set(answer) == {"batchItemFailures"}
    items = answer["batchItemFailures"]
    assert all(set(item) == {"itemIdentifier"} for item in items)
    return [int(item["itemIdentifier"].rpartition("-")[2]) for item in items]


def test_a_batch_is_handled(service: LambdaService, calls: Calls) -> None:
    """Each message of a batch is handled once, and none stays."""
    assert failed(service, *map(record, range(10))) == []
    assert sorted(calls.numbers) == list(range(10))


def test_a_redelivered_message_is_a_duplicate(service: LambdaService, calls: Calls) -> None:
    """A redelivered message is a duplicate by the envelope's id, even under another message id."""
    again = {**record(1), "messageId": "059f36b4-87a3-44ab-83d2-000000000099"}
    assert failed(service, record(1)) == []
    assert failed(service, again) == []
    assert calls.numbers == [1]


@pytest.mark.parametrize(
    "error", [PermanentError("no"), TemporaryError("later"), ValueError("a bug")], ids=repr
)
def test_a_message_that_the_ledger_has_is_deleted(
    service: LambdaService, calls: Calls, error: Exception
) -> None:
    """A message whose run has failed, or is resumed by the sweep, is deleted."""
    calls.errors[2] = error
    assert failed(service, record(1), record(2), record(3)) == []
    assert sorted(calls.numbers) == [1, 2, 3]


@pytest.mark.parametrize("body", ["", "nonsense", "[]", "{}", '{"saas-orchestrator": {}}'])
def test_a_message_that_is_no_event_stays_in_the_queue(
    service: LambdaService, calls: Calls, body: str
) -> None:
    """A message that is no event stays for the dead-letter queue, and the others are handled."""
    assert failed(service, record(1), record(2, body=body), record(3)) == [2]
    assert sorted(calls.numbers) == [1, 3]


@pytest.mark.parametrize("count", [None, [], {}, 1, 1.5, "", "x", "-1", "٣", "9" * 5000])
def test_an_odd_attribute_fails_no_batch(
    service: LambdaService, calls: Calls, count: object
) -> None:
    """A count or a trace of another type fails no message of the batch."""
    odd = record(1)
    odd["attributes"] |= {"ApproximateReceiveCount": count, "AWSTraceHeader": count}
    answer = service.handle({"Records": [odd, record(2)]}, remaining_s=30)
    assert answer == {"batchItemFailures": []}
    assert sorted(calls.numbers) == [1, 2]


def test_the_rest_of_a_group_stays_behind_one_that_stays(
    service: LambdaService, calls: Calls
) -> None:
    """In a FIFO queue the rest of a failed message's group stays, so that none overtakes it; other
    groups are handled."""
    records = [
        record(1, group="a"),
        record(2, group="a", body="nonsense"),
        record(3, group="a"),
        record(4, group="b"),
        record(5, group="a"),
    ]
    assert failed(service, *records) == [2, 3, 5]
    assert sorted(calls.numbers) == [1, 4]


def test_a_group_is_handled_in_turn(service: LambdaService, calls: Calls) -> None:
    """A group is handled in the order of the queue."""
    assert failed(service, *(record(number, group="a") for number in range(10))) == []
    assert calls.numbers == list(range(10))


def test_a_message_that_is_not_done_in_time_stays_in_the_queue(
    service: LambdaService, calls: Calls
) -> None:
    """The run of a message that isn't done in time is handed back before the function is frozen,
    and continues at the redelivery."""
    calls.hangs.add(2)
    assert failed(service, record(1), record(2), record(3), remaining_s=0.6) == [2]
    calls.hangs.clear()
    assert failed(service, record(2)) == []
    assert calls.numbers.count(2) == 2


def test_a_handler_that_does_not_stop_keeps_no_answer_back(
    service: LambdaService, calls: Calls
) -> None:
    """A handler that ignores cancellation delays no answer: its message stays, and the others are
    deleted."""
    calls.hangs.add(2)
    calls.stubborn.add(2)
    assert failed(service, record(1), record(2), record(3), remaining_s=0.6) == [2]
    calls.hangs.clear()
    calls.release.set()


def test_a_schedule_may_come_by_the_queue(service: LambdaService) -> None:
    """A schedule's event in a batch is a sweep, and its message is deleted."""
    scheduled = envelope("Scheduled Event", {}, source="aws.events")
    assert failed(service, record(1, body=json.dumps(scheduled))) == []


def test_an_empty_batch_is_no_batch(service: LambdaService) -> None:
    """An empty batch, which Lambda never sends, is refused."""
    with pytest.raises(Exception, match="neither an SQS batch"):
        service.handle({"Records": []}, remaining_s=30)
