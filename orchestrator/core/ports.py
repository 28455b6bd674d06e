"""What the core needs from the world. Adapters implement these; tests have in-memory twins.

Each raises `TemporaryError` or `PermanentError` and nothing else of its own: a foreign
error is turned into one of the two at the edge.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import attrs

from orchestrator.core.events import Event
from orchestrator.core.pages import Page
from orchestrator.core.records import (
    Claim,
    Job,
    Progress,
    RunRecord,
    RunStatus,
    Settlement,
    TenantRecord,
)

Tier = Mapping[str, Any]
TierFunction = Callable[[str], Awaitable[Tier | None]]


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, in UTC."""


class Ids(Protocol):
    def fresh_id(self) -> str:
        """An id that nobody has seen before."""


class Ledger(Protocol):
    """Where runs and tenants are kept. Each write is conditional and atomic."""

    async def claim(
        self, *, event: Event[Mapping[str, Any]], tenant_id: str | None, dedupe_window_s: float
    ) -> Claim:
        """Take the event's run in hand: a new one, or the next attempt of an unfinished one."""

    async def record(self, *, run_id: str, attempt: int, progress: Progress) -> None:
        """Remember what was done. Raises TemporaryError if the run is in other hands."""

    async def settle(self, *, run_id: str, attempt: int, settlement: Settlement) -> None:
        """End the attempt. Raises TemporaryError if the run is in other hands."""

    async def find_run(self, *, run_id: str) -> RunRecord | None: ...

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        """Runs that match, the one first seen last first; None matches all.

        A run that is added while pages are read moves none of the others.

        Raises:
            ValueError: the cursor is none of ours.
        """

    async def find_tenant(self, *, tenant_id: str) -> TenantRecord | None: ...

    async def has_job(self, *, job_id: str) -> bool:
        """Whether a run of ours started the job."""

    async def check(self) -> None:
        """Raises TemporaryError if the ledger can't be reached."""


class TierCatalog(Protocol):
    async def find_tier(self, tier: str) -> Tier | None:
        """The tier's attributes as they stand in the catalog, None if there is no such tier."""


class Builder(Protocol):
    """Starts jobs. A user's own has `start_job` at least."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        """Start a job with `params` as its variables.

        The same `start_key` (at most 64 characters) never starts a second job.
        """


class Publisher(Protocol):
    async def publish(self, *, event_type: str, detail: Mapping[str, Any]) -> str:
        """Publish one event for the control plane and whoever listens; its id is returned."""


@attrs.frozen
class Permission:
    """What an AWS role must be allowed: IAM actions on an ARN, with `*` for what isn't known."""

    actions: tuple[str, ...]
    resource: str


@runtime_checkable
class Checkable(Protocol):
    """An adapter that can tell whether its other end is there, without doing anything to it."""

    description: str
    permissions: tuple[Permission, ...]

    async def check(self) -> None:
        """Raises TemporaryError or PermanentError with the reason if it isn't."""


class Structure(Protocol):
    """From JSON values to models and back."""

    def structure(self, value: object, model: Any) -> Any:
        """`value` as a `model`. Raises InvalidPayload with every mismatch."""

    def unstructure(self, value: object) -> Any:
        """`value` as JSON. Raises TypeError where JSON has no form for it."""
