"""A database that is opened at start, used by handlers as `run.resources`, and closed at shutdown.

    ORCHESTRATOR__EXTENSION=lifespan_database:extension orchestrator serve --app-dir examples
    echo '{"tenantId": "bluebird", "seats": 3}' | orchestrator send SEATS_CHANGED

With a pool of asyncpg or aiosqlite the handler awaits it directly; the standard library's sqlite3
blocks, and is called in a thread.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import attrs

from orchestrator import Event, Extension, HandlerRegistry, Run

registry = HandlerRegistry()


class Seats:
    """The seats that each tenant has paid for."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._lock = asyncio.Lock()  # one connection, one statement at a time

    async def change(self, tenant_id: str, seats: int) -> None:
        """An upsert: the handler may be run again, and must then write the same."""
        sql = "insert into seats values (?, ?) on conflict (tenant) do update set seats = ?"
        async with self._lock:
            await asyncio.to_thread(self._write, sql, (tenant_id, seats, seats))

    def _write(self, sql: str, values: tuple[object, ...]) -> None:
        with self._database:  # a transaction
            self._database.execute(sql, values)


@attrs.frozen
class SeatsChanged:
    tenant_id: str
    seats: int


@registry.on("SEATS_CHANGED")
async def change_seats(event: Event[SeatsChanged], run: Run) -> None:
    seats: Seats = run.resources
    await seats.change(event.payload.tenant_id, event.payload.seats)


@asynccontextmanager
async def open_seats() -> AsyncIterator[Seats]:
    with closing(sqlite3.connect("seats.db", check_same_thread=False)) as database:
        database.execute("create table if not exists seats (tenant primary key, seats integer)")
        yield Seats(database)


extension = Extension(registry=registry, lifespan=open_seats)
