"""The ledger and the inbox in memory: for tests and for trying things out.

A process that ends forgets them. They pass the same contract suites as the durable ones
(`tests/contracts`); the ledger's methods are atomic because they never await.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TypeVar

import attrs

from orchestrator.core.errors import SecretNotFound
from orchestrator.core.lifecycle import TenantState
from orchestrator.core.pages import Page, build_page, decode_cursor, most_candidates
from orchestrator.core.ports import Clock, Conflict, Message, Permission
from orchestrator.core.records import (
    Due,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)

Item = TypeVar("Item", RunRecord, TenantRecord)


class InMemoryLedger:
    description = "memory: forgotten when the process ends"
    permissions: tuple[Permission, ...] = ()
    max_payload_bytes: int | None = None

    def __init__(self) -> None:
        self._items: dict[str, Record] = {}

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        expected = {**unchanged, **{record.key: record.version for record in records}}
        standing = {key: self._items.get(key) for key in expected}
        otherwise = {
            key: record
            for key, record in standing.items()
            if (record.version if record else 0) != expected[key]
        }
        if otherwise:
            raise Conflict(otherwise)
        for record in records:
            self._items[record.key] = attrs.evolve(record, version=record.version + 1)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        return {key: self._items.get(key) for key in keys}

    async def find_due(
        self,
        *,
        before: datetime,
        limit: int,
        start: int = 0,  # noqa: ARG002 - it has one shard
        cursor: str | None = None,
    ) -> Page[str]:
        due = sorted(
            (f"{record.due_at.astimezone(UTC).isoformat(timespec='microseconds')} {record.key}")
            for record in self._items.values()
            if isinstance(record, Due) and record.due_at is not None and record.due_at <= before
        )
        left = [place for place in due if cursor is None or place > cursor]
        keys = [place.partition(" ")[2] for place in left[:limit]]
        return Page(keys, left[limit - 1] if len(left) > limit else None)

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        before = None if cursor is None else decode_cursor(cursor)
        # As the indexes of the durable ledger have them: a tenant's, those in a status, or all.
        listed = [
            run
            for run in self._of(RunRecord)
            if tenant_id in (None, run.tenant_id)
            and (tenant_id is not None or status in (None, run.status))
            and (before is None or run.position < before)
        ]
        listed.sort(key=lambda run: run.position, reverse=True)
        narrowed = event_type is not None or None not in (tenant_id, status)
        most = most_candidates(limit, narrowed=narrowed)
        found = [
            (run.position, run)
            for run in listed[:most]
            if event_type in (None, run.event_type) and status in (None, run.status)
        ]
        end = listed[most - 1].position if len(listed) >= most else None
        return build_page(found, limit=limit, end=end)

    async def list_tenants(
        self, *, state: TenantState | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        after = "" if cursor is None else decode_cursor(cursor)
        listed = [
            (tenant.tenant_id, tenant)
            for tenant in self._of(TenantRecord)
            if tenant.state is not None
            and state in (None, tenant.state)
            and tenant.tenant_id > after
        ]
        listed.sort(key=itemgetter(0))
        return build_page(listed, limit=limit, end=None)

    async def check(self) -> None:
        return None

    def _of(self, kind: type[Item]) -> list[Item]:
        return [record for record in self._items.values() if isinstance(record, kind)]


@attrs.define
class _Waiting:
    message: Message
    visible_from: datetime
    deduplication_id: str


class InMemoryInbox:
    """A queue in memory, `in_groups` as a FIFO queue of SQS.

    There a message follows those of its group, and one whose deduplication id was there within
    5 minutes is taken for the same (SQS developer guide, FIFO queues).
    """

    description = "memory: forgotten when the process ends"
    permissions: tuple[Permission, ...] = ()

    def __init__(
        self, clock: Clock, *, in_groups: bool = False, visibility_s: float = 60.0
    ) -> None:
        self.visibility_s = visibility_s
        self._clock = clock
        self.in_groups = in_groups
        self._waiting: list[_Waiting] = []
        self._known: dict[str, datetime] = {}
        self._sent = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many messages nobody has deleted yet."""
        return len(self._waiting)

    async def send(self, *, text: str, group: str, deduplication_id: str) -> None:
        now = self._clock.now()
        known_until = self._known.get(deduplication_id)
        if self.in_groups and known_until is not None and now < known_until:
            return
        self._known[deduplication_id] = now + timedelta(minutes=5)
        self._sent += 1
        name = f"message-{self._sent}"
        message = Message(
            id=name,
            text=text,
            receipt=name,
            group=group if self.in_groups else None,
            receives=0,
        )
        self._waiting.append(_Waiting(message, now, deduplication_id))
        self._changed.set()

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        until = self._clock.now() + timedelta(seconds=wait_s)
        while not (taken := self._take(min(limit, 10))) and self._clock.now() < until:
            await self._change(until)
        return taken

    async def hide(self, message: Message, *, seconds: float) -> None:
        for waiting in self._waiting:
            if waiting.message.receipt == message.receipt:
                waiting.visible_from = self._clock.now() + timedelta(seconds=seconds)
        self._changed.set()

    async def delete(self, message: Message) -> None:
        self._waiting = [
            waiting for waiting in self._waiting if waiting.message.receipt != message.receipt
        ]
        self._changed.set()

    async def check(self) -> None:
        return None

    def _take(self, limit: int) -> list[Message]:
        now, taken, held = self._clock.now(), list[Message](), set[str | None]()
        for waiting in self._waiting:
            group = waiting.message.group
            is_visible = waiting.visible_from <= now and group not in held
            if group is not None:
                held.add(group)
            if is_visible and len(taken) < limit:
                waiting.visible_from = now + timedelta(seconds=self.visibility_s)
                waiting.message = attrs.evolve(
                    waiting.message,
                    receives=waiting.message.receives + 1,
                    receipt=f"{waiting.message.id}-{waiting.message.receives + 1}",
                )
                taken.append(waiting.message)
        return taken

    async def _change(self, until: datetime) -> None:
        """Return when something has changed, or becomes visible, or the time is over."""
        now = self._clock.now()
        moments = [one.visible_from for one in self._waiting if one.visible_from > now]
        pause_s = (min([*moments, until]) - now).total_seconds()
        self._changed.clear()
        waits = {
            asyncio.ensure_future(self._changed.wait()),
            asyncio.ensure_future(self._clock.sleep(pause_s)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


@attrs.define
class InMemorySecretStore:
    """Secrets by name."""

    reference_type: str = "SECRETS_MANAGER"
    kept: dict[str, str] = attrs.field(init=False, factory=dict)

    async def put(self, *, name: str, value: str) -> None:
        self.kept[name] = value

    async def read(self, *, name: str) -> str:
        if name not in self.kept:
            raise SecretNotFound(name, "memory")
        return self.kept[name]

    async def remove(self, *, name: str) -> None:
        self.kept.pop(name, None)
