"""A Lambda function answers before its remaining time is over."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.pages import Page
from orchestrator.lambda_handler import LambdaService
from orchestrator.testing import envelope
from tests.acceptance.lambda_functions import JSON, any_format, ask, post
from tests.acceptance.ways import MakeEvent, http_api_event, read_lambda_answer

#: A sweep ends a fraction of it before the answer has to leave, also on a machine that is busy.
LEFT_S = 1.5


class Hanging(InMemoryLedger):
    """A ledger some of whose reads never return."""

    async def find_due(self, **asked: Any) -> Page[str]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def check(self) -> None:
        await asyncio.get_running_loop().create_future()


@pytest.fixture
def hanging(settings: Settings) -> Iterator[LambdaService]:
    """A function with a handler that never ends, over a ledger that hangs."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def hang(event: Event[dict[str, Any]], run: Run) -> None:
        if run.attempt == 1:
            await asyncio.get_running_loop().create_future()

    extension = Extension(registry=registry)
    service = LambdaService(
        create_app(settings, extension=extension, hands_back=True, ledger=Hanging())
    )
    yield service
    service.close()


@any_format
def test_a_short_time_left_shortens_the_deadline(
    hanging: LambdaService, make_event: MakeEvent
) -> None:
    """With little time left the answer is 503 before the function is killed, whatever
    `intake.deadline_s` is; the run is handed back, and the redelivery resumes it."""
    answer = read_lambda_answer(hanging.handle(post(make_event), remaining_s=0.9), post(make_event))
    assert answer.status == 503, answer.text
    assert "still being handled after 0.6 s" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    (run,) = ask(hanging, make_event("GET", "/runs")).json()["items"]
    assert (run["status"], run["attempt"]) == ("retry", 1)
    assert ask(hanging, post(make_event)).status == 200
    (run,) = ask(hanging, make_event("GET", "/runs")).json()["items"]
    assert (run["status"], run["attempt"]) == ("succeeded", 2)


def test_no_time_left_is_a_try_again(hanging: LambdaService) -> None:
    """Without time left the answer is 503 at once, and nothing is begun."""
    event = post(http_api_event)
    assert read_lambda_answer(hanging.handle(event, remaining_s=0), event).status == 503


@any_format
def test_a_sweep_ends_before_the_function_does(
    hanging: LambdaService, make_event: MakeEvent
) -> None:
    """A sweep is 200 before the function ends, and the rest stays due."""
    event = make_event("POST", "/events/RECONCILE", headers=JSON, body=b"{}")
    answer = read_lambda_answer(hanging.handle(event, remaining_s=LEFT_S), event)
    assert answer.status == 200, answer.text


def test_a_sweep_by_way_of_a_queue_ends_before_the_function_does(hanging: LambdaService) -> None:
    """A sweep's message is deleted although the sweep isn't complete, since it would take as long
    again."""
    body = json.dumps(envelope("RECONCILE", {}))
    message = {
        "messageId": "1",
        "body": body,
        "receiptHandle": "r",
        "eventSource": "aws:sqs",
        "attributes": {"ApproximateReceiveCount": "1"},
    }
    assert hanging.handle({"Records": [message]}, remaining_s=LEFT_S) == {"batchItemFailures": []}


@any_format
def test_whatever_hangs_is_answered_in_time(hanging: LambdaService, make_event: MakeEvent) -> None:
    """A route whose reads never return is 503 too."""
    event = make_event("GET", "/readyz")
    answer = read_lambda_answer(hanging.handle(event, remaining_s=0.3), event)
    assert (answer.status, answer.media_type) == (503, "application/problem+json")
    assert answer.json()["instance"] == "/readyz"
    assert int(answer.headers["Retry-After"]) >= 1
