"""What every ledger does, part two: it lists runs, page by page."""

import asyncio
from functools import partial
from itertools import product
from typing import Any

import pytest

from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.pages import CANDIDATES, Page, encode_cursor
from orchestrator.core.ledger.records import RunRecord, RunStatus
from tests.contracts.pages import commit, read_all, read_pages
from tests.contracts.samples import kept, later, operation, run, tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG_CURSORS = ["", "A", "~~~~", "a b c", "é", "=", "_w", "gICA", encode_cursor("x" * 3000)]


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
#: Filters that an index doesn't answer alone, for those runs.
_SPARSE: list[dict[str, Any]] = [
    {"tenant_id": "t-1", "event_type": "REFUND"},
    {"status": RunStatus.FAILED, "event_type": "REFUND"},
    {"tenant_id": "t-1", "status": RunStatus.FAILED, "event_type": "REFUND"},
]


async def test_a_page_looks_at_so_many_runs_and_no_more(ledger: Ledger) -> None:
    """It ends short or empty, however few match, with the cursor of what comes behind."""
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
        {"tenant_id": "t-1", "event_type": "NONE"},
        {"tenant_id": "t-1", "status": RunStatus.QUEUED},
    ]
    for filters in absent:
        pages = await read_pages(partial(ledger.list_runs, **filters, limit=1))
        assert pages == [[], []]
    full = await ledger.list_runs(tenant_id="t-1", status=RunStatus.FAILED, limit=3)
    assert ids(full) == [f"{n:04}" for n in range(_MANY - 1, _MANY - 4, -1)]
    # What an index answers alone comes in full pages.
    refunds = await read_pages(partial(ledger.list_runs, event_type="REFUND", limit=3))
    assert [ids(Page(page, None)) for page in refunds] == [rare[:3], rare[3:]]
    assert [len(page) for page in await read_pages(partial(ledger.list_runs, limit=100))] == [
        *[100] * (_MANY // 100),
        _MANY % 100,
    ]


async def test_pages_stay_where_they_are(ledger: Ledger) -> None:
    """Runs that come or change their status between two pages neither repeat nor hide a run."""
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


async def test_an_item_that_changes_its_status_is_not_hidden(ledger: Ledger) -> None:
    """A run or tenant whose status changes during the query is listed, under one of the two."""
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


async def test_a_list_by_status_has_the_current_status(ledger: Ledger) -> None:
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


async def test_a_wrong_cursor_is_a_value_error(ledger: Ledger) -> None:
    """A cursor that no list gave is neither an empty page nor a temporary error."""
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
    """Every list of runs begins at `since` and ends before `until`, page by page."""
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
