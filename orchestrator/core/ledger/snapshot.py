"""Snapshots: the items that a decision reads, and a record of which it has read.

A decision (`claim`, `settle`) is a plain function of a snapshot: it reads items
through it and says what to write. The commit then checks that everything that was read
is unchanged, so no decision is made on stale items.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar, cast

import attrs

from orchestrator.core.ledger.records import (
    Due,
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    SecretsRecord,
    TenantRecord,
    job_key,
    operation_key,
    payload_key,
    registration_key,
    run_key,
    secrets_key,
    tenant_key,
)

Result = TypeVar("Result", covariant=True)


@attrs.frozen
class Decision(Generic[Result]):
    """The result of a decision: the items to write, all or none, and the value to return."""

    writes: tuple[Record, ...]
    result: Result


class NotLoaded(Exception):
    """The decision needs items that the snapshot doesn't have."""

    def __init__(self, *keys: str) -> None:
        super().__init__(*keys)
        self.keys = keys


class Snapshot:
    """Items by key as last loaded, at the time `now`; None: there is none.

    An item that most likely doesn't exist may be read with `expect_absent`: it isn't loaded, and
    the commit checks that it is absent.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._items: dict[str, Record | None] = {}
        self._confirmed: set[str] = set()
        self._used: set[str] = set()

    def later(self, seconds: float) -> datetime:
        """The time `seconds` from now."""
        return self.now + timedelta(seconds=seconds)

    def turn_to(self, now: datetime) -> None:
        """Move to a later time, at which items loaded before may have changed."""
        self.now = now
        self._confirmed = set()

    def learn(self, items: Mapping[str, Record | None]) -> None:
        """Add the current items."""
        self._items |= items
        self._confirmed |= set(items)

    def begin(self) -> None:
        """Begin a new decision, which has read nothing yet."""
        self._used = set()

    @property
    def unconfirmed(self) -> frozenset[str]:
        """The keys that the decision has read and that are not confirmed."""
        return frozenset(self._used - self._confirmed)

    def versions_used(self) -> dict[str, int]:
        """The version of each item that the decision has read; 0: there is none."""
        used = {key: self._items[key] for key in self._used}
        return {key: record.version if record else 0 for key, record in used.items()}

    def run(self, run_id: str, *, expect_absent: bool = False) -> RunRecord | None:
        return cast("RunRecord | None", self._read(run_key(run_id), expect_absent))

    def look_at_runs(self, run_ids: Sequence[str]) -> list[RunRecord | None]:
        """Read runs without a check by the commit: they may have changed by then."""
        keys = [run_key(run_id) for run_id in run_ids]
        if unread := [key for key in keys if key not in self._confirmed]:
            raise NotLoaded(*unread)
        return [cast("RunRecord | None", self._items[key]) for key in keys]

    def has_seen_run(self, run_id: str) -> bool:
        """Whether the run is loaded, so that `look_at_runs` needs no request."""
        return run_key(run_id) in self._confirmed

    def due_item(self, key: str) -> Due | None:
        """The due item under that key."""
        return cast("Due | None", self._read(key))

    def payload(self, run_id: str, *, expect_absent: bool = False) -> PayloadRecord | None:
        return cast("PayloadRecord | None", self._read(payload_key(run_id), expect_absent))

    def operation(
        self, operation_id: str, *, expect_absent: bool = False
    ) -> OperationRecord | None:
        key = operation_key(operation_id)
        return cast("OperationRecord | None", self._read(key, expect_absent))

    def known_operation(self, operation_id: str) -> OperationRecord | None:
        """The operation as last loaded, for what no decision depends on; None if it isn't."""
        return cast("OperationRecord | None", self._items.get(operation_key(operation_id)))

    def tenant(self, tenant_id: str, *, expect_absent: bool = False) -> TenantRecord | None:
        return cast("TenantRecord | None", self._read(tenant_key(tenant_id), expect_absent))

    def job(self, builder: str, job_id: str, *, expect_absent: bool = False) -> JobRecord | None:
        return cast("JobRecord | None", self._read(job_key(builder, job_id), expect_absent))

    def registration(
        self, registration_id: str, *, expect_absent: bool = False
    ) -> RegistrationRecord | None:
        key = registration_key(registration_id)
        return cast("RegistrationRecord | None", self._read(key, expect_absent))

    def secrets(self, start_key: str, *, expect_absent: bool = False) -> SecretsRecord | None:
        return cast("SecretsRecord | None", self._read(secrets_key(start_key), expect_absent))

    def _read(self, key: str, expect_absent: bool = False) -> Record | None:
        if expect_absent:
            self._items.setdefault(key, None)
        if key not in self._items:
            raise NotLoaded(key)
        self._used.add(key)
        return self._items[key]
