"""What only a ledger in DynamoDB does: expiry, and retries of the service's failures."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest

from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.ledger import Conflict, UnreadableItems
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.pages import CANDIDATES
from orchestrator.core.ledger.record_parts import Job, OperationState, Report, Step, Waiter
from orchestrator.core.ledger.records import PayloadRecord, Record, RunStatus
from orchestrator.embedded import Fault
from orchestrator.testing import ManualClock
from tests.contracts.dynamodb.table import Table
from tests.contracts.samples import (
    ASKED,
    JOB,
    NOW,
    job,
    kept,
    later,
    operation,
    registration,
    run,
    tenant,
)
from tests.dynamodb_local.ledgers import RETENTION_DAYS, build_ledger
from tests.dynamodb_local.proxy import (
    UNPROCESSED,
    broken,
    conflict,
    throttled,
    throttled_transaction,
)
from tests.ledgers import fill
from tests.transport import on_transport

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETENTION = timedelta(days=RETENTION_DAYS)
CALLS: dict[str, Callable[[DynamoDBLedger], Awaitable[object]]] = {
    "commit": lambda ledger: ledger.commit([run()], unchanged={}),
    "load": lambda ledger: ledger.load(["RUN#1"]),
    "find_due": lambda ledger: ledger.find_due(before=NOW, limit=1),
    "list_runs": lambda ledger: ledger.list_runs(),
    "list_runs of a tenant": lambda ledger: ledger.list_runs(tenant_id="t"),
    "list_tenants": lambda ledger: ledger.list_tenants(),
    "check": lambda ledger: ledger.check(),
}


@pytest.mark.parametrize(
    ("record", "since"),
    [
        (run(status=RunStatus.SUCCEEDED, ended_at=later(5)), later(5)),
        (run(status=RunStatus.FAILED, ended_at=later(5)), later(5)),
        (run(status=RunStatus.DUPLICATE, ended_at=later(5)), later(5)),
        (run(status=RunStatus.RETRY, ended_at=later(5)), None),
        (run(status=RunStatus.RUNNING), None),
        (operation(state=OperationState.OPEN), None),
        (operation(state=OperationState.OVER, ended_at=later(5)), later(5)),
        (operation(state=OperationState.GIVEN_BACK, ended_at=later(5)), later(5)),
        # Its report is still to be sent.
        (operation(state=OperationState.OVER, ended_at=later(5), due_at=later(9)), None),
        (tenant(state=None), None),
        (registration(), None),
        *((tenant(state=state), None) for state in TenantState),
    ],
    ids=lambda value: getattr(value, "status", None) or getattr(value, "state", None),
)
async def test_finished_items_expire(table: Table, record: Record, since: datetime | None) -> None:
    """A finished run or operation is deleted when its retention is over; all others stay."""
    await table.ledger.commit([record], unchanged={})
    expires = (await table.item(record.key)).get("expires_at")
    assert expires == (since and {"N": str(int((since + RETENTION).timestamp()))})


@pytest.mark.parametrize("record", [job(), PayloadRecord(run_id="1", data=b"1")])
async def test_payloads_and_jobs_expire_after_their_run(
    table: Table, clock: ManualClock, record: Record
) -> None:
    """They are written before its end, so they are kept for longer."""
    await table.ledger.commit([record], unchanged={})
    expires = clock.now() + 2 * RETENTION
    assert (await table.item(record.key))["expires_at"] == {"N": str(int(expires.timestamp()))}


async def test_a_run_that_is_resumed_does_not_expire(table: Table) -> None:
    """A resumed run has no expiry, whatever expiry it had before."""
    await table.ledger.commit([run(status=RunStatus.FAILED, ended_at=NOW)], unchanged={})
    await table.ledger.commit([run(version=1, status=RunStatus.RETRY)], unchanged={})
    assert "expires_at" not in await table.item(run().key)


@pytest.mark.parametrize("call", CALLS)
async def test_a_missing_table_is_temporary(table: Table, clock: ManualClock, call: str) -> None:
    """An operator may yet create it: no event is given up for it."""
    ledger, _ = build_ledger(table.aws, clock)
    with pytest.raises(TemporaryError, match="ResourceNotFoundException"):
        await CALLS[call](ledger)


async def test_the_permissions_are_those_needed(table: Table) -> None:
    """The permissions that `check` names are those of the ledger's requests."""
    for call in CALLS.values():
        await call(table.ledger)
    await table.ledger.commit([], unchanged={"RUN#none": 0})
    needed = {
        "TransactWriteItems": {"dynamodb:PutItem", "dynamodb:ConditionCheckItem"},
        "BatchGetItem": {"dynamodb:BatchGetItem"},
        "Query": {"dynamodb:Query"},
    }
    done = {f"{right}" for action, _ in table.proxy.calls for right in needed[action]}
    assert done == {right for one in table.ledger.permissions for right in one.actions}


async def test_fields_of_a_newer_release_are_kept(table: Table) -> None:
    """Fields of a record, of its parts, and attributes beside it, whichever of them changes; those
    of a value that is replaced are dropped with it."""
    client = await table.aws.dynamodb()
    records: list[Record] = [
        run(job=JOB, steps={"s": Step(name="s", result={"unknown": 1}, recorded_at=NOW)}),
        operation(report=Report(url="u", body={"a": {}}), job=JOB),
        tenant(asked=ASKED, waiting=[Waiter(run_id=f"{n}", kind=Kind.DEPLOYMENT) for n in (1, 2)]),
    ]
    await table.ledger.commit(records, unchanged={})

    def add(value: Any) -> Any:
        """The same, as a release would write it that has more fields everywhere."""
        match value:
            case dict() if value.keys() & {"version", "job_identifier", "recorded_at", "tries"}:
                return {name: add(one) for name, one in value.items()} | {"newer": {"n": [None]}}
            case dict() if value.keys() & {"times", "run_id"}:
                return {name: add(one) for name, one in value.items()} | {"newer": 2}
            case dict():
                return {name: add(one) for name, one in value.items()}
            case list():
                return [add(one) for one in value]
        return value

    for record in records:
        item = await table.item(record.key)
        item["data"] = {"S": json.dumps(add(json.loads(item["data"]["S"])))}
        another = {"S": "another"}
        item |= {"newer": {"B": b"\x00"}, "list": another, "tenant_id": another}
        await client.put_item(TableName=table.name, Item=item)
    found: Any = await table.ledger.load([record.key for record in records])
    one, other, third = (found[record.key] for record in records)
    assert (one.job, one.steps["s"].result) == (JOB, {"unknown": 1})
    await table.ledger.commit(
        [
            attrs.evolve(one, status=RunStatus.SUCCEEDED),
            attrs.evolve(other, report=attrs.evolve(other.report, tries=3), job=job_of("b-2")),
            attrs.evolve(third, asked=third.asked.with_time("x", NOW), waiting=third.waiting[1:]),
        ],
        unchanged={},
    )
    first, second, last = [await table.item(record.key) for record in records]
    assert first["newer"] == second["newer"] == last["newer"] == {"B": b"\x00"}
    assert first["list"]["S"].startswith("run#")
    assert second["list"] == {"S": "operation#tenant-1"}
    assert "tenant_id" not in second  # this release knows it, and has it nowhere
    data, ended, held = (json.loads(item["data"]["S"]) for item in (first, second, last))
    newer = {"n": [None]}
    assert (data["status"], data["newer"], data["job"]["newer"]) == ("succeeded", newer, newer)
    assert data["steps"]["s"]["newer"] == newer
    assert (ended["newer"], ended["report"]["newer"], ended["report"]["tries"]) == (newer, newer, 3)
    assert "newer" not in ended["job"]
    assert (held["newer"], held["asked"]["newer"]) == (newer, 2)
    assert held["waiting"] == [{"run_id": "2", "kind": "deployment", "newer": 2}]
    assert "unknown" not in data | ended | held | data["job"]


def job_of(job_id: str) -> Job:
    return Job(id=job_id, builder="CODE_BUILD", job_identifier="build")


async def test_a_commit_and_a_load_are_one_request_each(table: Table) -> None:
    """One request takes as many items as DynamoDB takes at once."""
    records = [tenant(f"{n}") for n in range(99)]
    await table.ledger.commit(records, unchanged={"RUN#none": 0})
    await table.ledger.load([record.key for record in records])
    assert [action for action, _ in table.proxy.calls] == ["TransactWriteItems", "BatchGetItem"]


async def test_reads_are_consistent(table: Table) -> None:
    """A read sees what a commit wrote before it."""
    await table.ledger.load(["RUN#1"])
    (asked,) = table.requests("BatchGetItem")
    assert asked["RequestItems"][table.name]["ConsistentRead"] is True


async def test_a_page_is_a_fixed_number_of_requests(table: Table) -> None:
    """Their number doesn't grow with the runs and tenants, and however few of them match."""
    runs = [run(f"{n}", first_seen=later(n), tenant_id="big") for n in range(CANDIDATES + 10)]
    tenants = [tenant(f"{n}") for n in range(90)]
    await fill(table.ledger, [*runs, *tenants])
    for asked, queries, reads in (
        ({"event_type": "NONE", "limit": 1}, 4, 0),
        ({"tenant_id": "big", "status": RunStatus.FAILED}, 1, 4),
        ({"status": RunStatus.RUNNING, "event_type": "NONE"}, 4, 4),
        # As soon as a page is full, no more is read.
        ({"status": RunStatus.RUNNING, "event_type": "ORDER", "limit": 99}, 4, 1),
        ({"event_type": "ORDER"}, 4, 1),
        ({"limit": 1}, 4, 1),
        ({"limit": 100}, 4, 2),
        ({"tenant_id": "big"}, 1, 1),
        ({"status": RunStatus.RUNNING}, 4, 1),
    ):
        table.proxy.calls.clear()
        await table.ledger.list_runs(**asked)
        made = [action for action, _ in table.proxy.calls]
        assert made == ["Query"] * queries + ["BatchGetItem"] * reads, asked
    for state in (None, TenantState.ACTIVE, TenantState.DEPLOYING):
        table.proxy.calls.clear()
        await table.ledger.list_tenants(state=state, limit=50)
        assert len(table.proxy.calls) <= 2


async def test_unprocessed_keys_are_read_again(table: Table) -> None:
    """Keys that were not processed are read again after growing pauses."""
    records = [tenant(f"{n}") for n in range(90)]
    await table.ledger.commit(records, unchanged={})
    table.proxy.inject("BatchGetItem", *[UNPROCESSED] * 3)
    keys = [*(record.key for record in records), *(f"RUN#{n}" for n in range(60))]
    found = await table.ledger.load(keys)
    assert list(found) == keys
    assert [one for one in found.values() if one] == [kept(record) for record in records]
    assert table.pauses == sorted(set(table.pauses))
    assert len(table.pauses) == 3


async def test_patience_with_unread_keys_ends(table: Table) -> None:
    """Keys that are never read are a temporary failure, not items that aren't there."""
    table.proxy.inject("BatchGetItem", *[UNPROCESSED] * 5)
    with pytest.raises(TemporaryError, match="BatchGetItem"):
        await table.ledger.load(["RUN#1"])
    assert len(table.requests("BatchGetItem")) == 5


async def test_the_next_load_is_as_patient(table: Table) -> None:
    """Each call has its own number of tries, however many batches a page has."""
    for _ in range(2):
        table.proxy.inject("BatchGetItem", *[UNPROCESSED] * 4)
        assert await table.ledger.load(["RUN#1"]) == {"RUN#1": None}


TRANSIENT = {
    "TransactionConflict": conflict(),
    "ThrottlingError": throttled_transaction(),
    "ProvisionedThroughputExceeded": Fault.error("ProvisionedThroughputExceeded"),
}


@pytest.mark.parametrize("reason", TRANSIENT)
async def test_a_cancelled_transaction_is_tried_again(table: Table, reason: str) -> None:
    """It wrote nothing, for a reason that passes; each pause is longer than the one before."""
    table.proxy.inject("TransactWriteItems", *[TRANSIENT[reason]] * 4)
    await table.ledger.commit([run()], unchanged={"TENANT#none": 0})
    assert await table.ledger.load([run().key]) == {run().key: kept(run())}
    assert table.pauses == sorted(set(table.pauses))
    assert len(table.pauses) == 4


@pytest.mark.parametrize("reason", TRANSIENT)
async def test_patience_with_cancelled_transactions_ends(table: Table, reason: str) -> None:
    """Then it is a temporary failure that says why, and nothing was written."""
    table.proxy.inject("TransactWriteItems", *[TRANSIENT[reason]] * 5)
    with pytest.raises(TemporaryError, match=reason):
        await table.ledger.commit([run()], unchanged={})
    assert await table.ledger.load([run().key]) == {run().key: None}
    assert len(table.requests("TransactWriteItems")) == 5


async def test_a_try_anew_can_lose(table: Table) -> None:
    """A write that is tried again after a conflict gets what another one wrote meanwhile."""
    await table.ledger.commit([run()], unchanged={})
    table.proxy.inject("TransactWriteItems", conflict())
    with pytest.raises(Conflict) as refused:
        await table.ledger.commit([run(note="mine")], unchanged={})
    assert refused.value.items == {run().key: kept(run())}


@pytest.mark.parametrize("fault", [Fault.reset, throttled, broken])
async def test_a_failed_request_is_sent_again(table: Table, fault: Callable[[], Fault]) -> None:
    """The SDK tries a second time automatically, whatever the request was."""
    for action in ("TransactWriteItems", "BatchGetItem", *["Query"] * 4):
        table.proxy.inject(action, fault())
    await asyncio.gather(*(call(table.ledger) for call in CALLS.values()))
    assert table.proxy.injected.total() == 6


@pytest.mark.parametrize("fault", [Fault.reset, throttled, broken])
async def test_a_request_that_fails_twice_is_temporary(
    table: Table, fault: Callable[[], Fault]
) -> None:
    """Further retries are the sweep's."""
    for action in ("TransactWriteItems", "BatchGetItem"):
        table.proxy.inject(action, fault(), fault())
    called = (CALLS["commit"](table.ledger), CALLS["load"](table.ledger))
    failures = await asyncio.gather(*called, return_exceptions=True)
    assert [type(failure) for failure in failures] == [TemporaryError] * 2


async def test_a_list_that_fails_leaves_nothing_behind(table: Table) -> None:
    """It queries many partitions at once, and once it has failed none is queried any more."""
    table.proxy.inject("Query", Fault.error("AccessDeniedException"))
    with pytest.raises(TemporaryError, match="AccessDenied"):
        await table.ledger.list_runs()
    at_work = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
    assert [name for name in at_work if name.startswith("DynamoDBLedger")] == []


ODD_ITEMS: dict[str, dict[str, Any]] = {
    "unknown value": {"data": {"S": '{"status":"parked"}'}},
    "no JSON": {"data": {"S": "{"}},
    "no data": {},
    "no text": {"data": {"N": "1"}},
    "too deep": {"data": {"S": "[" * 100_000}},
    "no number of a format": {"data": {"S": "{}"}, "format": {"S": "newest"}},
}


@pytest.mark.parametrize("odd", ODD_ITEMS)
async def test_unreadable_items_are_named_beside_the_others(table: Table, odd: str) -> None:
    """A load and a refused commit name the item that can't be read, and have the others."""
    client = await table.aws.dynamodb()
    key, version = run("odd").key, {"version": {"N": "3"}}
    await client.put_item(
        TableName=table.name, Item={"key": {"S": key}, **version, **ODD_ITEMS[odd]}
    )
    await table.ledger.commit([run("good")], unchanged={})
    rest = {run("good").key: kept(run("good"))}
    with pytest.raises(UnreadableItems, match=key) as unread:
        await table.ledger.load([key, run("good").key, "RUN#none"])
    assert unread.value.keys == frozenset([key])
    assert unread.value.found == {**rest, "RUN#none": None}
    with pytest.raises(UnreadableItems, match=key) as refused:
        await table.ledger.commit([run("odd"), run("good")], unchanged={})
    assert refused.value.keys == frozenset([key])
    assert refused.value.found == rest


async def test_an_item_of_an_unknown_kind_can_not_be_read(table: Table) -> None:
    """Only a newer release knows it."""
    client = await table.aws.dynamodb()
    item = {"key": {"S": "LEASE#1"}, "version": {"N": "1"}, "data": {"S": "{}"}}
    await client.put_item(TableName=table.name, Item=item)
    with pytest.raises(UnreadableItems, match="LEASE#1"):
        await table.ledger.load(["LEASE#1"])


async def test_too_large_an_item_is_permanent(table: Table) -> None:
    """What DynamoDB will never take isn't tried again."""
    with pytest.raises(PermanentError):
        await table.ledger.commit([PayloadRecord(run_id="1", data=b"x" * 420_000)], unchanged={})
    assert len(table.requests("TransactWriteItems")) == 1


async def test_both_answers_lost_are_temporary(table: Table) -> None:
    """It is unknown whether it was written; a second try gets its own record as the current one."""
    table.proxy.inject("TransactWriteItems", Fault.answer_lost(), Fault.reset())
    with pytest.raises(TemporaryError) as unknown:
        await table.ledger.commit([run()], unchanged={})
    assert not unknown.value.nothing_done
    with pytest.raises(Conflict) as refused:
        await table.ledger.commit([run()], unchanged={})
    assert refused.value.items == {run().key: kept(run())}


@pytest.mark.parametrize("way", on_transport("DynamoDB Local"), indirect=True)
async def test_a_commit_does_not_lose_to_itself(table: Table) -> None:
    """When the answer is lost, the SDK's second try is the same write, and succeeds."""
    await table.ledger.commit([run()], unchanged={})
    table.proxy.inject("TransactWriteItems", Fault.answer_lost())
    await table.ledger.commit([run(version=1, note="mine"), tenant()], unchanged={"OP#none": 0})
    mine = run(version=2, note="mine")
    assert await table.ledger.load([mine.key, tenant().key]) == {
        mine.key: mine,
        tenant().key: kept(tenant()),
    }
    *_, first, second = table.requests("TransactWriteItems")
    assert first["ClientRequestToken"] == second["ClientRequestToken"]


async def test_two_commits_have_two_tokens(table: Table) -> None:
    """The same write requested twice is two writes, and the second loses."""
    await table.ledger.commit([run()], unchanged={})
    with pytest.raises(Conflict):
        await table.ledger.commit([run()], unchanged={})
    first, second = table.requests("TransactWriteItems")
    assert first["ClientRequestToken"] != second["ClientRequestToken"]


@pytest.mark.parametrize("key", ["RUN#" + "x" * 2045, ""])
async def test_an_impossible_key_is_absent(table: Table, key: str) -> None:
    """A key that DynamoDB would refuse is answered as absent."""
    assert await table.ledger.load([key, "RUN#x"]) == {key: None, "RUN#x": None}
    page = await table.ledger.list_runs(tenant_id=key)
    assert (list(page.items), page.cursor) == ([], None)
