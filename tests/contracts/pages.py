"""What the tests of lists share: they write records, and read all pages."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.records import Record
from tests.ledgers import fill

Item = TypeVar("Item")


async def commit(ledger: Ledger, *records: Record) -> None:
    await fill(ledger, records)


async def read_pages(list_page: Callable[..., Awaitable[Page[Item]]]) -> list[list[Item]]:
    """The items of all pages in a row."""
    read: list[list[Item]] = []
    cursor: str | None = None
    while not read or cursor is not None:
        assert len(read) < 100  # a list that repeats its first page for ever must not hang here
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
