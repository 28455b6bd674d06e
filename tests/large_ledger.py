"""A DynamoDB that holds a ledger of any size, filled in seconds; its requests are counted.

The tables are those of the benchmarks' stand-in, which refuses an expression that it can't
evaluate. DynamoDB Local takes minutes for 100,000 items with these indexes.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import attrs
from aiohttp import web

from benchmarks.seeds import in_its_shard
from benchmarks.standin.dynamodb import DynamoDB, Table
from orchestrator.adapters.dynamodb.items import Item, build_item
from orchestrator.adapters.ledger_indexes import INDEXES
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, Record, RunStatus
from orchestrator.embedded.codebuild import HOST
from tests.contracts import samples
from tests.faulty_aws import LEDGER, call_name

#: The tenant with all those runs and operations.
BUSY = f"waits-{0:010}"
_NUMBER, _BEGUN = f"{7:010}", samples.later(-1)


def build_table(*, tenants: int, runs: int, operations: int) -> Table:
    """A ledger of so many tenants, runs in all, and operations of the tenant BUSY.

    Of four tenants one failed, one never began, one waits for a job, and one is at rest.
    """
    table = Table("key", {index.name: (index.partition, index.sort) for index in INDEXES})
    lives = tenants // 4
    for record, count in (
        *((record, lives) for record in _life()),
        (_run("done", RunStatus.SUCCEEDED, tenant_id=BUSY), runs - 2 * lives),
        (_operation("done", OperationState.OVER, tenant_id=BUSY), operations),
    ):
        for item in _copies(record, count):
            table.put(item)
    return table


def _life() -> Iterator[Record]:
    """The items that are copied for each four tenants."""
    waiting, failed = f"waits-{_NUMBER}", f"failed-{_NUMBER}"
    held = _operation("held", OperationState.OPEN, tenant_id=waiting, opener=f"{_NUMBER}-held")
    last = _operation("last", OperationState.OVER, tenant_id=failed)
    yield from (held, last)
    yield _run("held", RunStatus.RETRY, tenant_id=waiting)
    yield _run("failed", RunStatus.FAILED, event_type="REFUND", tenant_id=failed)
    yield _tenant("waits", TenantState.DEPLOYING, operation_id=held.operation_id)
    yield _tenant("failed", TenantState.DEPLOYMENT_FAILED, last_operation=last.operation_id)
    yield _tenant("none", None)
    yield _tenant("rests", TenantState.ACTIVE, last_operation=last.operation_id)


def _run(name: str, status: RunStatus, **fields: Any) -> Record:
    return samples.run(f"{_NUMBER}-{name}", status=status, first_seen=_BEGUN, **fields)


def _operation(name: str, state: OperationState, **fields: Any) -> OperationRecord:
    return samples.operation(f"{_NUMBER}-{name}", state=state, opened_at=_BEGUN, **fields)


def _tenant(name: str, state: TenantState | None, **fields: Any) -> Record:
    return samples.tenant(f"{name}-{_NUMBER}", state=state, changed_at=_BEGUN, **fields)


def _copies(record: Record, count: int) -> Iterator[Item]:
    """Copies of an item, each with a number and a time of its own."""
    item = build_item(record, expires_at=None)
    texts = {name: value["S"] for name, value in item.items() if "S" in value}
    begun = _moment(_BEGUN)
    for number in range(count):
        own, moment = f"{number:010}", _moment(samples.later(number))
        changed = {
            name: {"S": text.replace(_NUMBER, own).replace(begun, moment)}
            for name, text in texts.items()
        }
        yield in_its_shard({**item, **changed})


def _moment(moment: datetime) -> str:
    """The time in the forms of the JSON and the indexes, without what follows it."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


@attrs.define
class CountedDynamoDB:
    """`calls` are the requests by name, as in `FaultyAWS`."""

    url: str = ""
    calls: list[str] = attrs.field(factory=list)
    tables: dict[str, Table] = attrs.field(factory=dict)

    async def handle_request(self, request: web.Request) -> web.Response:
        _, _, action = request.headers["X-Amz-Target"].partition(".")
        parameters: Mapping[str, Any] = await request.json()
        self.calls.append(call_name(action, parameters))
        answer = DynamoDB(self.tables).perform(action, parameters)
        return web.json_response(answer, content_type="application/x-amz-json-1.0")


@asynccontextmanager
async def open_dynamodb() -> AsyncIterator[CountedDynamoDB]:
    """Serve the DynamoDB with an empty ledger."""
    dynamodb = CountedDynamoDB(tables={LEDGER: build_table(tenants=0, runs=0, operations=0)})
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/", dynamodb.handle_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        host, port = runner.addresses[0][:2]
        dynamodb.url = f"http://{host}:{port}"
        yield dynamodb
    finally:
        await runner.cleanup()
