"""How much CPU time each hostile input costs, and whether memory stays constant.

`python -m benchmarks.hostile` sends each to the service over HTTP and through the Lambda handler,
as a request and as a message of SQS. The sender is in the same process, and its CPU time counts,
too; the minimum of several rounds is taken. The ledger is in memory, emptied after each event.
"""

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from benchmarks.hostile_corpus import NAMES, hostile_body
from orchestrator import Extension, Settings, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.lambda_handler import LambdaService
from orchestrator.logs import configure_logs
from orchestrator.settings import LedgerSettings, Tiers
from orchestrator.testing import InMemoryBuilder

_ROUNDS = 3
_GOAL_MS = 50.0
_SETTINGS = Settings(
    ledger=LedgerSettings(backend="memory"),
    tiers=Tiers(backend="static", static={"STANDARD": {"jobIdentifier": "standard-tenant"}}),
)

Send = Callable[[bytes], object]


class _ForgetfulLedger(InMemoryLedger):
    """A ledger that can be emptied, so that only the service's own memory is measured."""

    def forget(self) -> None:
        super().__init__()


def main() -> None:
    configure_logs(level="error", layout="json", redact=SECRET_NAMES)
    gc.set_threshold(10_000, 20, 50)  # as in `orchestrator.server`
    rows: list[tuple[float, str, str]] = []
    for way, opened in (("HTTP", _http), ("Lambda", _invocations), ("SQS", _messages)):
        ledger = _ForgetfulLedger()
        with opened(ledger) as send:
            rows += [(cost, way, name) for name, cost in _measure(way, send, ledger).items()]
    for cost, way, name in sorted(rows, reverse=True):
        print(f"{cost:7.1f} ms  {way:<6}  {name}")
    slow = sum(cost > _GOAL_MS for cost, _, _ in rows)
    print(f"{slow} of {len(rows)} cost more than {_GOAL_MS:.0f} ms")


def _measure(way: str, send: Send, ledger: _ForgetfulLedger) -> dict[str, float]:
    """The milliseconds of CPU for each input."""
    costs = dict.fromkeys(NAMES, float("inf"))
    send(hostile_body("text", "warm-up"))
    for number in range(_ROUNDS):
        for name in NAMES:
            body = hostile_body(name, f"{name}-{number}")
            began = time.process_time()
            send(body)
            costs[name] = min(costs[name], 1000 * (time.process_time() - began))
            ledger.forget()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{way}, round {number + 1}: at most {peak:.0f} MiB", file=sys.stderr)
    return costs


def _app(ledger: InMemoryLedger) -> web.Application:
    extension = Extension(builders={"CODE_BUILD": InMemoryBuilder()})
    return create_app(_SETTINGS, extension=extension, ledger=ledger)


@contextmanager
def _http(ledger: InMemoryLedger) -> Iterator[Send]:
    with asyncio.Runner() as runner:
        server = TestServer(_app(ledger), host="127.0.0.1")

        async def start() -> ClientSession:
            await server.start_server()
            return ClientSession(headers={"Content-Type": "application/json"})

        async def post(body: bytes) -> None:
            async with client.post(server.make_url("/events"), data=body) as answer:
                await answer.read()

        client = runner.run(start())
        yield lambda body: runner.run(post(body))
        runner.run(client.close())
        runner.run(server.close())


@contextmanager
def _invocations(ledger: InMemoryLedger) -> Iterator[Send]:
    with _function(ledger) as service:
        # API Gateway user guide, "Create AWS Lambda proxy integrations for HTTP APIs".
        request = {
            "rawPath": "/events",
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": {"method": "POST"}},
        }
        yield lambda body: service.handle(
            {**request, "body": body.decode("utf-8", "replace")}, remaining_s=60
        )


@contextmanager
def _messages(ledger: InMemoryLedger) -> Iterator[Send]:
    with _function(ledger) as service:
        # Lambda developer guide, "Using Lambda with Amazon SQS".
        record = {
            "messageId": "1",
            "receiptHandle": "r",
            "attributes": {},
            "eventSource": "aws:sqs",
        }
        yield lambda body: service.handle(
            {"Records": [{**record, "body": body.decode("utf-8", "replace")}]}, remaining_s=60
        )


@contextmanager
def _function(ledger: InMemoryLedger) -> Iterator[LambdaService]:
    service = LambdaService(_app(ledger))
    yield service
    service.close()


if __name__ == "__main__":
    main()
