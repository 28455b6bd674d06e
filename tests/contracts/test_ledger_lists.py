"""What every ledger does, part two: it lists runs and tenants, page by page."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product
from typing import Any, TypeVar

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.ledger import Ledger, OpenOperations, Summary
from orchestrator.core.ledger.lifecycle import NO_STATE, TenantState
from orchestrator.core.ledger.pages import CANDIDATES, Count, Page, encode_cursor
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import Record, RunRecord, RunStatus
from tests.contracts.samples import JOB, kept, later, operation, run, tenant
from tests.ledgers import fill

Item = TypeVar("Item")

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG_CURSORS = ["", "A", "~~~~", "a b c", "é", "=", "_w", "gICA", encode_cursor("x" * 3000)]


async def commit(ledger: Ledger, *records: Record) -> None:
    await fill(ledger, records)


async def read_pages(list_page: Callable[..., Awaitable[Page[Item]]]) -> list[list[Item]]:
    """The items of all pages in a row."""
    read: list[list[Item]] = []
    cursor: str | None = None
    while not read or cursor is not None:
        assert len(read) < 100  # whoever reads the first page for ever must not hang here
        page = await list_page(cursor=cursor)
        read.append(list(page.items))
        cursor = page.cursor
    return read


async def read_all(list_page: Callable[..., Awaitable[Page[Item]]], *, limit: int) -> list[Item]:
    """All pages in a row; of a list that is short, each but the last is full, and no cursor leads
    to an empty one."""
    pages = await read_pages(list_page)
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1] or len(pages) == 1
    return [item for page in pages for item in page]


def ids(page: Page[RunRecord]) -> list[str]:
    return [record.run_id for record in page.items]


#: Filters, and how many runs of the test match them.
PAGED: list[tuple[dict[str, Any], int]] = [
    ({}, 15),
    ({"tenant_id": "t-1"}, 15),
    ({"event_type": "REFUND"}, 3),
    ({"status": RunStatus.FAILED}, 3),
    ({"tenant_id": "t-1", "status": RunStatus.FAILED}, 3),
    ({"tenant_id": "t-2"}, 0),
]
TENANTS = (None, "t-1", "t-2")
TYPES = ("ORDER", "REFUND")


async def test_runs_are_listed_by_every_filter(ledger: Ledger) -> None:
    """Any filters together: the runs that match them all, the one first seen last first."""
    facts = list(product(TENANTS, TYPES, RunStatus))
    runs = [
        kept(
            run(
                f"{(n * 7) % len(facts):02}",
                tenant_id=tenant_id,
                event_type=event_type,
                status=status,
                first_seen=later(n / 1e6),
            )
        )
        for n, (tenant_id, event_type, status) in enumerate(facts)
    ]
    await commit(ledger, *(_unwritten(record) for record in runs), tenant("t-1"), operation())
    for tenant_id, event_type, status in product(TENANTS, (None, *TYPES), (None, *RunStatus)):
        page = await ledger.list_runs(tenant_id=tenant_id, event_type=event_type, status=status)
        assert page == Page(
            [
                record
                for record in reversed(runs)
                if tenant_id in (None, record.tenant_id)
                and event_type in (None, record.event_type)
                and status in (None, record.status)
            ],
            None,
        )


def _unwritten(record: RunRecord) -> RunRecord:
    return run(
        record.run_id,
        tenant_id=record.tenant_id,
        event_type=record.event_type,
        status=record.status,
        first_seen=record.first_seen,
    )


async def test_nothing_is_a_page(ledger: Ledger) -> None:
    """A ledger without runs and tenants has one empty page of each."""
    assert await ledger.list_runs() == Page([], None)
    assert await ledger.list_runs(tenant_id="t", status=RunStatus.FAILED) == Page([], None)
    assert await ledger.list_tenants() == Page([], None)


async def test_pages_make_the_whole_list(ledger: Ledger) -> None:
    """Page by page, of any size, every run comes once and in order, however few match."""
    statuses = list(RunStatus)
    runs = [
        run(
            f"{(n * 7) % 15:02}",
            tenant_id="t-1",
            event_type="REFUND" if n in (3, 9, 14) else "ORDER",
            status=statuses[n % 5],
            first_seen=later(n // 3),  # three each moment
        )
        for n in range(15)
    ]
    await commit(ledger, *runs)
    runs.sort(key=lambda record: (record.first_seen, record.run_id), reverse=True)
    for filters, number in PAGED:
        matching = [
            kept(record)
            for record in runs
            if all(getattr(record, name) == value for name, value in filters.items())
        ]
        assert len(matching) == number
        for limit in {number // 3 or 1, number or 1, number + 1}:
            list_runs = partial(ledger.list_runs, **filters, limit=limit)
            assert await read_all(list_runs, limit=limit) == matching


#: More runs than one page looks at.
_MANY = CANDIDATES + 10
#: Those of the other type: the two at the border of the first page, the first and the last.
_RARE = (0, 9, 10, _MANY - 1)
#: Filters that an index doesn't answer by itself, for those runs.
_SPARSE: list[dict[str, Any]] = [
    {"event_type": "REFUND"},
    {"tenant_id": "t-1", "event_type": "REFUND"},
    {"status": RunStatus.FAILED, "event_type": "REFUND"},
    {"tenant_id": "t-1", "status": RunStatus.FAILED, "event_type": "REFUND"},
]


async def test_a_page_looks_at_so_many_runs_and_no_more(ledger: Ledger) -> None:
    """However few match, it ends, short or empty, with the cursor of what comes behind."""
    runs = [
        run(
            f"{n:04}",
            first_seen=later(n),
            tenant_id="t-1",
            event_type="REFUND" if n in _RARE else "ORDER",
            status=RunStatus.FAILED,
        )
        for n in range(_MANY)
    ]
    await commit(ledger, *runs)
    rare = [f"{n:04}" for n in reversed(_RARE)]
    for filters in _SPARSE:
        pages = await read_pages(partial(ledger.list_runs, **filters))
        assert [record.run_id for page in pages for record in page] == rare, filters
        assert [len(page) for page in pages] == [2, 2]
    absent: list[dict[str, Any]] = [
        {"event_type": "NONE"},
        {"tenant_id": "t-1", "status": RunStatus.QUEUED},
    ]
    for filters in absent:
        pages = await read_pages(partial(ledger.list_runs, **filters, limit=1))
        assert pages == [[], []]
    full = await ledger.list_runs(tenant_id="t-1", status=RunStatus.FAILED, limit=3)
    assert ids(full) == [f"{n:04}" for n in range(_MANY - 1, _MANY - 4, -1)]
    # What an index answers by itself comes in full pages.
    assert [len(page) for page in await read_pages(partial(ledger.list_runs, limit=100))] == [
        *[100] * (_MANY // 100),
        _MANY % 100,
    ]


async def test_pages_stay_where_they_are(ledger: Ledger) -> None:
    """Runs that come or move on while somebody reads neither repeat nor hide a run."""
    runs = [run(f"{n}", first_seen=later(n)) for n in range(6)]
    await commit(ledger, *runs)
    first = await ledger.list_runs(limit=2)
    assert ids(first) == ["5", "4"]
    await commit(
        ledger,
        run("new", first_seen=later(10)),
        run("5", first_seen=later(5), version=1, status=RunStatus.FAILED),
        run("3", first_seen=later(3), version=1, status=RunStatus.SUCCEEDED),
    )
    second = await ledger.list_runs(limit=2, cursor=first.cursor)
    assert ids(second) == ["3", "2"]
    await commit(ledger, run("4", first_seen=later(4), version=1, status=RunStatus.RETRY))
    third = await ledger.list_runs(limit=2, cursor=second.cursor)
    assert (ids(third), third.cursor) == (["1", "0"], None)
    again = await ledger.list_runs(limit=2, cursor=first.cursor)
    assert ids(again) == ["3", "2"]


async def test_what_moves_on_is_not_hidden(ledger: Ledger) -> None:
    """A run or tenant whose status changes at this very moment is listed, as one or the other."""
    await commit(ledger, run(), tenant())
    is_over = asyncio.Event()

    async def move_on() -> None:
        version = 1
        while not is_over.is_set():
            await commit(
                ledger,
                run(version=version, status=(RunStatus.RETRY, RunStatus.RUNNING)[version % 2]),
                tenant(version=version, state=list(TenantState)[version % 2]),
            )
            version += 1
            await asyncio.sleep(0)

    moving = asyncio.create_task(move_on())
    try:
        for _ in range(25):
            assert ids(await ledger.list_runs()) == [run().run_id]
            assert len((await ledger.list_tenants()).items) == 1
            await asyncio.sleep(0)
    finally:
        is_over.set()
        await moving


async def test_a_list_by_status_shows_what_stands_now(ledger: Ledger) -> None:
    """A run is listed under the status that it has, and under no other."""
    runs = [run(f"{n}", first_seen=later(n)) for n in range(4)]
    await commit(ledger, *runs)
    page = await ledger.list_runs(status=RunStatus.RUNNING, limit=2)
    assert ids(page) == ["3", "2"]
    moved = [
        run(f"{n}", first_seen=later(n), version=1, status=RunStatus.SUCCEEDED) for n in (1, 3)
    ]
    await commit(ledger, *moved)
    rest = await ledger.list_runs(status=RunStatus.RUNNING, limit=2, cursor=page.cursor)
    assert (ids(rest), rest.cursor) == (["0"], None)
    listed = await ledger.list_runs(status=RunStatus.SUCCEEDED)
    assert ids(listed) == ["3", "1"]
    assert list(listed.items) == [kept(record) for record in reversed(moved)]


async def test_a_cursor_serves_any_list_of_runs(ledger: Ledger) -> None:
    """It is a place in the order of all runs, so filters may change behind it."""
    await commit(ledger, *(run(f"{n}", first_seen=later(n), tenant_id="t") for n in range(4)))
    cursor = (await ledger.list_runs(limit=2)).cursor
    assert ids(await ledger.list_runs(tenant_id="t", cursor=cursor)) == ["1", "0"]
    assert ids(await ledger.list_runs(status=RunStatus.RUNNING, cursor=cursor)) == ["1", "0"]


@pytest.mark.parametrize("limit", [3, 50])
async def test_tenants_are_listed_by_state(ledger: Ledger, limit: int) -> None:
    """By each state and all together, in the order of their ids, page by page."""
    states = list(TenantState)
    tenants = [tenant(f"t-{n:02}", state=states[n * 7 % len(states)]) for n in range(25)]
    await commit(ledger, *reversed(tenants), tenant("t-unseen", state=None), run(), operation())
    for state in (None, *states):
        list_tenants = partial(ledger.list_tenants, state=state, limit=limit)
        read = await read_all(list_tenants, limit=limit)
        assert read == [kept(one) for one in tenants if state in (None, one.state)]


async def test_tenants_stay_where_they_are(ledger: Ledger) -> None:
    """A tenant that comes or changes its state moves none of the others."""
    await commit(ledger, *(tenant(name) for name in "bdfh"))
    first = await ledger.list_tenants(limit=2)
    assert [one.tenant_id for one in first.items] == ["b", "d"]
    changed = tenant("f", version=1, state=TenantState.DEPLOYING)
    await commit(ledger, tenant("a"), tenant("g"), changed)
    second = await ledger.list_tenants(limit=2, cursor=first.cursor)
    assert [one.tenant_id for one in second.items] == ["f", "g"]
    third = await ledger.list_tenants(limit=2, cursor=second.cursor)
    assert [one.tenant_id for one in third.items] == ["h"]
    active = await ledger.list_tenants(state=TenantState.ACTIVE)
    assert [one.tenant_id for one in active.items] == ["a", "b", "d", "g", "h"]


async def test_tenants_of_any_name_are_listed(ledger: Ledger) -> None:
    """Whatever an id is made of, the tenant comes in its place."""
    names = ["\t", "\n1", " ", " a", "!", "0", "A", "a", "~", "é", "漢", "\uffff", "😀"]
    await commit(ledger, *(tenant(name) for name in reversed(names)))
    read = await read_all(partial(ledger.list_tenants, limit=3), limit=3)
    assert [one.tenant_id for one in read] == names


async def test_open_operations_are_counted_by_kind(ledger: Ledger) -> None:
    """With the time of the oldest; one that is over, given back, or holds no tenant isn't one."""
    opened = {
        "op-2": later(20),
        "op-1": later(10),
        "op-3": later(30),
    }
    open_ones = [
        operation(name, kind=Kind.CLEAN_UP, state=OperationState.OPEN, opened_at=since)
        for name, since in opened.items()
    ]
    others = [
        operation("op-4", kind=Kind.CLEAN_UP, state=OperationState.OVER),
        operation("op-5", kind=Kind.CLEAN_UP, state=OperationState.GIVEN_BACK),
        operation("op-6", kind=None, state=OperationState.OPEN),
    ]
    await commit(ledger, *open_ones, *others)
    assert await ledger.count_open(Kind.CLEAN_UP, most=10) == OpenOperations(3, later(10))
    assert await ledger.count_open(Kind.CLEAN_UP, most=2) == OpenOperations(2, later(10))
    oldest = kept(open_ones[1])
    await ledger.commit([attrs.evolve(oldest, state=OperationState.OVER)], unchanged={})
    assert await ledger.count_open(Kind.CLEAN_UP, most=10) == OpenOperations(2, later(20))


async def test_no_open_operation_is_counted_as_none(ledger: Ledger) -> None:
    """There is no oldest one then."""
    assert await ledger.count_open(Kind.DEPLOYMENT, most=10) == OpenOperations(0, None)


async def test_a_wrong_cursor_is_told(ledger: Ledger) -> None:
    """A cursor that no list gave is a ValueError, not an empty page and not a failure of ours."""
    for cursor in WRONG_CURSORS:
        with pytest.raises(ValueError, match="no cursor of this service"):
            await ledger.list_runs(cursor=cursor)
        with pytest.raises(ValueError, match="no cursor of this service"):
            await ledger.list_tenants(cursor=cursor)
        with pytest.raises(ValueError, match="no cursor of this service"):
            await ledger.list_by_attention(cursor=cursor)
        with pytest.raises(ValueError, match="no cursor of this service"):
            await ledger.list_operations(tenant_id="t-1", cursor=cursor)


#: Bounds of the time of ten runs, one each second, and which of them are within.
BETWEEN: list[tuple[float | None, float | None, range]] = [
    (3, None, range(3, 10)),
    (None, 3, range(3)),
    (3, 7, range(3, 7)),
    (3.5, 3.6, range(0)),
    (7, 3, range(0)),
    (0, 100, range(10)),
]


@pytest.mark.parametrize(("since", "until", "within"), BETWEEN)
async def test_runs_are_listed_by_time(
    ledger: Ledger, since: float | None, until: float | None, within: range
) -> None:
    """From `since` on, before `until`, of every list of runs and page by page."""
    await commit(ledger, *(run(f"{n}", first_seen=later(n), tenant_id="t") for n in range(10)))
    bounds: dict[str, Any] = {
        "since": None if since is None else later(since),
        "until": None if until is None else later(until),
    }
    filters: list[dict[str, Any]] = [{}, {"tenant_id": "t"}, {"status": RunStatus.RUNNING}]
    for others in filters:
        for limit in (2, 3, 50):
            list_runs = partial(ledger.list_runs, **bounds, **others, limit=limit)
            read = await read_all(list_runs, limit=limit)
            assert [one.run_id for one in read] == [f"{n}" for n in reversed(within)]


async def test_tenants_are_listed_by_the_beginning_of_their_ids(ledger: Ledger) -> None:
    """In any state or in one, whatever the letters are, page by page."""
    names = ["a", "ab", "ab-1", "ab-2", "ab-\uffff", "ab-😀", "abc", "b", "é", "éa"]
    states = (TenantState.ACTIVE, TenantState.DEPLOYING)
    tenants = [tenant(name, state=states[n % 2]) for n, name in enumerate(names)]
    await commit(ledger, *tenants)
    for prefix, state, limit in product(
        ("", "a", "ab-", "ab-1", "é", "z", "x" * 2000), (None, *states), (1, 2, 50)
    ):
        list_tenants = partial(ledger.list_tenants, prefix=prefix, state=state, limit=limit)
        assert await read_all(list_tenants, limit=limit) == [
            kept(one)
            for one in tenants
            if one.tenant_id.startswith(prefix) and state in (None, one.state)
        ]


async def test_tenants_that_never_began_are_listed(ledger: Ledger) -> None:
    """By `none` instead of a state, in no other list of states."""
    unseen = [tenant(f"u-{n}", state=None) for n in range(3)]
    await commit(ledger, *unseen, tenant("t-1"))
    list_unseen = partial(ledger.list_tenants, state=NO_STATE, limit=2)
    assert await read_all(list_unseen, limit=2) == [kept(one) for one in unseen]
    assert (await ledger.list_tenants(state=NO_STATE, prefix="u-1")).items == [kept(unseen[1])]
    assert [one.tenant_id for one in (await ledger.list_tenants()).items] == ["t-1"]


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
async def test_tenants_are_listed_by_the_attention_that_they_need(
    ledger: Ledger, limit: int
) -> None:
    """Failed or never begun, the latest first; without a job, then with one, the oldest first; at
    rest, the latest first."""
    resting: list[tuple[str, TenantState | None]] = [
        ("active", TenantState.ACTIVE),
        ("failed", TenantState.DEPLOYMENT_FAILED),
        ("provisioned", TenantState.PROVISIONED),
        ("none", None),
        ("removed", TenantState.DEPROVISIONED),
        ("not removed", TenantState.DEPROVISION_FAILED),
        ("not made", TenantState.PROVISION_FAILED),
    ]
    for n, (name, state) in enumerate(resting):
        await commit(ledger, tenant(name, state=state, changed_at=later(n)))
    for n, name in enumerate(("runs 1", "waits 1", "runs 2", "waits 2")):
        held = operation(
            f"operation-{n}",
            tenant_id=name,
            opened_at=later(n),
            job=JOB if name.startswith("runs") else None,
        )
        await commit(ledger, held, tenant(name, operation_id=held.operation_id))
    # What holds no tenant, or holds it no more, is in none of these.
    await commit(
        ledger,
        operation("of a run", kind=None, tenant_id="active"),
        operation("over", state=OperationState.OVER, tenant_id="active"),
        operation("given back", state=OperationState.GIVEN_BACK, tenant_id="none"),
    )
    read = await read_all(partial(ledger.list_by_attention, limit=limit), limit=limit)
    assert [one.tenant_id for one in read] == [
        *("not made", "not removed", "none", "failed"),
        *("waits 1", "waits 2"),
        *("runs 1", "runs 2"),
        *("removed", "provisioned", "active"),
    ]


async def test_a_tenant_that_moves_is_in_its_new_place(ledger: Ledger) -> None:
    """An operation that gets its job, ends and fails takes its tenant along."""

    async def places() -> list[str]:
        return [one.tenant_id for one in (await ledger.list_by_attention()).items]

    await commit(
        ledger,
        tenant("f", state=TenantState.PROVISION_FAILED),
        tenant("r"),
        operation("w", tenant_id="w", opened_at=later(5)),
        tenant("w", operation_id="w"),
        operation("t", tenant_id="t"),
        tenant("t", operation_id="t"),
    )
    assert await places() == ["f", "t", "w", "r"]
    await commit(ledger, operation("t", tenant_id="t", version=1, job=JOB))
    assert await places() == ["f", "w", "t", "r"]
    over = operation("t", tenant_id="t", version=2, job=JOB, state=OperationState.OVER)
    await commit(
        ledger,
        over,
        tenant("t", version=1, state=TenantState.PROVISION_FAILED, changed_at=later(9)),
    )
    assert await places() == ["t", "f", "w", "r"]


async def test_a_tenants_operations_are_listed(ledger: Ledger) -> None:
    """Its own and no other's, the last opened first; a run's own is none of a tenant's."""
    mine = [
        operation(f"{n * 7 % 25:02}", tenant_id="t-1", opened_at=later(n // 2)) for n in range(25)
    ]
    await commit(
        ledger,
        *mine,
        operation("other", tenant_id="t-2"),
        operation("own", kind=None, tenant_id="t-1"),
        run("run", tenant_id="t-1"),
        tenant("t-1"),
    )
    mine.sort(key=lambda one: (one.opened_at, one.operation_id), reverse=True)
    for limit in (3, 20, 25, 50):
        listed = partial(ledger.list_operations, tenant_id="t-1", limit=limit)
        assert await read_all(listed, limit=limit) == [kept(one) for one in mine]
    for nobody in ("t-3", "", "x" * 3000):
        assert await ledger.list_operations(tenant_id=nobody) == Page([], None)
    again = operation("07", tenant_id="t-1", opened_at=later(100), version=1, start_number=2)
    await commit(ledger, again)
    assert (await ledger.list_operations(tenant_id="t-1", limit=1)).items == [kept(again)]


async def test_a_ledger_is_summed_up(ledger: Ledger) -> None:
    """Each state with its number, which is cut, failed runs, and the oldest open operation."""
    states = {state: Count(0) for state in (*TenantState, NO_STATE)}
    empty = Summary(tenants=states, failed_runs=Count(0), oldest=None)
    assert await ledger.summarize(most=3) == empty
    oldest = operation("oldest", opened_at=later(-1), job=JOB)
    await commit(
        ledger,
        *(tenant(f"a-{n}") for n in range(3)),
        *(tenant(f"d-{n}", state=TenantState.DEPLOYING) for n in range(4)),
        tenant("n", state=None),
        *(run(f"{n}", status=RunStatus.FAILED) for n in range(6)),
        run("other"),
        operation("newer"),
        oldest,
        operation("own", kind=None, opened_at=later(-9)),
        operation("over", opened_at=later(-9), state=OperationState.OVER),
    )
    states |= {
        TenantState.ACTIVE: Count(3),
        TenantState.DEPLOYING: Count(3, is_capped=True),
        NO_STATE: Count(1),
    }
    failed = Count(3, is_capped=True)
    summed_up = Summary(tenants=states, failed_runs=failed, oldest=kept(oldest))
    assert await ledger.summarize(most=3) == summed_up
    assert (await ledger.summarize(most=6)).failed_runs == Count(6)
