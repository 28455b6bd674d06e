"""The templates' metric filters match the lines that the service logs, and no others."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator import Extension, HandlerRegistry, PermanentError, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.testing import envelope
from tests.conftest import StartService
from tests.deploy.conftest import STACKS
from tests.deploy.templates import Stack

_TERM = re.compile(r'\$\.(\w+) = ("[^"]*"|\d+)')


def matches(pattern: str, line: Mapping[str, Any]) -> bool:
    """Whether a filter for JSON log events matches (CloudWatch Logs user guide, Filter pattern
    syntax): terms of the form `$.field = value`, joined by `&&`."""
    inside = re.fullmatch(r"\{ (.+) \}", pattern)
    assert inside is not None
    terms = [_TERM.fullmatch(term) for term in inside[1].split(" && ")]
    found = {term[1]: json.loads(term[2]) for term in terms if term is not None}
    assert len(found) == len(terms)
    return all(line.get(name) == value for name, value in found.items())


def values(stack: Stack, metric: str, lines: list[Any]) -> list[tuple[Any, Any]]:
    """The values that the stack's filter for a metric takes from the lines, each with the line's
    status."""
    for one in stack.of_type("AWS::Logs::MetricFilter").values():
        (transformation,) = one["MetricTransformations"]
        if transformation["MetricName"] == metric:
            value = transformation["MetricValue"]
            return [
                (
                    line.get("status"),
                    line[value.removeprefix("$.")] if value.startswith("$.") else int(value),
                )
                for line in lines
                if matches(one["FilterPattern"], line)
            ]
    raise AssertionError(f"no filter for {metric}")


@pytest.fixture
async def lines(start_service: StartService, settings: Settings) -> list[Any]:
    """The log of a service that had a success, a bug, a refusal, a run that waits, and a sweep."""
    registry = HandlerRegistry()

    @registry.on("GOOD")
    async def good(event: Any, run: Any) -> None:
        return None

    @registry.on("BUG")
    async def bug(event: Any, run: Any) -> None:
        raise ValueError("a bug")

    @registry.on("BAD")
    async def bad(event: Any, run: Any) -> None:
        raise PermanentError("never")

    @registry.on("LATER")
    async def later(event: Any, run: Any) -> None:
        raise TemporaryError("not now")

    service = await start_service(
        settings, extension=Extension(registry=registry), ledger=InMemoryLedger()
    )
    with capture_logs() as logs:
        for number, name in enumerate(("GOOD", "BUG", "BAD", "LATER", "RECONCILE")):
            await service.post("/events", json=envelope(name, {}, event_id=f"e-{number}"))
        await service.post("/events", json={"no": "event"})
    return list(logs)


@pytest.mark.parametrize("name", ["queue", "lambda"])
def test_each_metric_counts_what_its_alarm_is_about(lines: list[Any], name: str) -> None:
    """The metrics count one sweep, one failed run and one answer of status 500; a 503 and a 422 are
    no alarm."""
    stack = STACKS[name]
    statuses = [line["status"] for line in lines if line["event"] == "request refused"]
    assert sorted(statuses) == [400, 422, 500, 503]
    assert values(stack, "Sweeps", lines) == [(None, 1)]
    assert values(stack, "OldestUnfinishedSeconds", lines) == [(None, 0)]
    assert values(stack, "FailedRuns", lines) == [("failed", 1)]
    assert values(stack, "InternalErrors", lines) == [(500, 1)]


def test_a_pattern_is_read_as_cloudwatch_reads_it() -> None:
    """All terms of a pattern must match, and a number doesn't match a text."""
    pattern = '{ $.event = "request refused" && $.status = 500 }'
    assert matches(pattern, {"event": "request refused", "status": 500})
    assert not matches(pattern, {"event": "request refused", "status": 503})
    assert not matches(pattern, {"event": "request refused", "status": "500"})
    assert not matches(pattern, {"status": 500})
