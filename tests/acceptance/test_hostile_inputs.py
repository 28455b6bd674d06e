"""Inputs that cost much or that parsers read differently: a clear and short answer, and a short
log.

`python -m benchmarks.hostile` measures what each of them costs.
"""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer

from benchmarks.hostile_corpus import NAMES, hostile_body
from orchestrator import Extension, Settings, create_app
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.lambda_handler import LambdaService
from orchestrator.logs import configure_logs
from orchestrator.testing import InMemoryBuilder
from tests.acceptance.lambda_functions import ask, post, record
from tests.acceptance.ways import function_url_event

#: The stored length of a sentence, in UTF-8, and some room for the rest of an answer or a line.
LONGEST_ANSWER = LONGEST_LINE = 16_000
MOST_LINES = 6
#: The inputs that are refused; all others are handled.
REFUSED = {
    *("lists, unclosed", "objects, unclosed", "lists in lists", "lists in lists, 101"),
    *("lists in lists, many", "empty lists", "empty objects", "100,000 items", "100,000 keys"),
    *("a key twice", "a key twice, the last", "huge keys, twice", "a number beyond a double"),
    *("an integer of a million digits", "an exponent of a million digits", "NaN", "a NUL"),
    *("half a surrogate pair", "surrogate pairs, the last one half", "variables", "no type"),
    *("notifications in each other", "variables with illegal names", "a long tenant", "no object"),
    *("variables with secret names", "fields of a toolkit's request", "a long tier"),
    *("a long type", "a long time", "a version of a CloudEvent", "data in Base64", "entries"),
    *("a type without a handler", "a long builder", "a JSON text of keys"),
    *("a variable of lists", "fields of an outcome", "secrets of an outcome"),
    *("secrets and fields of an outcome", "resources of an outcome", "texts that begin like JSON"),
}


@pytest.fixture
def said() -> Iterator[Callable[[], str]]:
    """The log since the last call, at level warning or above."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logs(level="warning", layout="json", redact=SECRET_NAMES)

        def take() -> str:
            text = stream.getvalue()
            stream.seek(0)
            stream.truncate()
            return text

        yield take
    structlog.reset_defaults()


@pytest.fixture
def extension() -> Extension:
    return Extension(builders={"CODE_BUILD": InMemoryBuilder()})


def check_answer(name: str, status: int, text: str) -> None:
    """The answer is a problem with one short sentence, or success."""
    assert status in ((400, 422) if name in REFUSED else (200,)), (name, text[:300])
    assert len(text) < LONGEST_ANSWER, name
    if status != 200:
        problem = json.loads(text)
        assert problem["status"] == status, name
        assert problem["detail"].isprintable(), name


def check_log(name: str, text: str) -> None:
    """The log of an event is a few lines, none of them long."""
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES, (name, lines[:3])
    assert all(len(line) < LONGEST_LINE for line in lines), name


async def test_a_hostile_body_gets_a_short_answer(
    settings: Settings, extension: Extension, said: Callable[[], str]
) -> None:
    """Over HTTP a hostile body gets a short answer, and the service continues to work."""
    async with TestClient(TestServer(create_app(settings, extension=extension))) as client:
        headers = {"Content-Type": "application/json"}
        for name in NAMES:
            body = hostile_body(name, name)
            async with client.post("/events", data=body, headers=headers) as answer:
                check_answer(name, answer.status, await answer.text())
            check_log(name, said())
        async with client.get("/healthz") as answer:
            assert answer.status == 200


def test_a_hostile_invocation_gets_a_short_answer(
    settings: Settings, extension: Extension, said: Callable[[], str]
) -> None:
    """A function URL's request with a hostile body gets a short answer."""
    service = LambdaService(create_app(settings, extension=extension))
    for name in NAMES:
        answer = ask(service, post(function_url_event, body=hostile_body(name, name)))
        check_answer(name, answer.status, answer.text)
        check_log(name, said())
    service.close()


def test_a_hostile_message_stays_in_the_queue_or_is_handled(
    settings: Settings, extension: Extension, said: Callable[[], str]
) -> None:
    """In a batch of SQS a message that is no event stays for the dead-letter queue, and any other
    one is handled or refused in the ledger."""
    service = LambdaService(create_app(settings, extension=extension))
    for number, name in enumerate(NAMES):
        text = hostile_body(name, name).decode("utf-8", "replace")
        message = record(number, body=text)
        answer = service.handle({"Records": [message]}, remaining_s=30)
        failures = [failed["itemIdentifier"] for failed in answer["batchItemFailures"]]
        assert failures in ([], [message["messageId"]]), name
        assert name in REFUSED or not failures, name
        check_log(name, said())
    service.close()
