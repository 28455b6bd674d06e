"""What the ledger keeps, as plain values: runs, their steps, jobs, tenants."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import attrs

from orchestrator.core.errors import PayloadMismatch


class RunStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"


@attrs.frozen(kw_only=True)
class Job:
    """What a builder started: its id there, and where to watch it."""

    id: str
    builder: str
    job_identifier: str
    log_url: str | None = None


@attrs.frozen(kw_only=True)
class Step:
    """A remembered step; `result` is JSON."""

    name: str
    result: Any
    recorded_at: datetime


@attrs.frozen(kw_only=True)
class Failure:
    """Why a run did not succeed. `traceback` is kept for bugs and shown to nobody over HTTP."""

    type: str
    message: str
    errors: tuple[PayloadMismatch, ...] = ()
    traceback: str | None = None

    @property
    def is_bug(self) -> bool:
        return self.traceback is not None


@attrs.frozen(kw_only=True)
class RunRecord:
    """The durable record of one event being handled.

    `attempt` is the fencing token: whoever writes must hold the attempt that it claimed.
    `request_key` is what a start is recognised by: the event's key, made anew when equal
    content is a new event. `bugs` counts the attempts that a bug ended.
    """

    run_id: str
    request_key: str
    event_type: str
    source: str
    event_id: str
    tenant_id: str | None
    status: RunStatus
    attempt: int
    first_seen: datetime
    started_at: datetime
    ended_at: datetime | None = None
    bugs: int = 0
    steps: Mapping[str, Step] = attrs.field(factory=dict)
    job: Job | None = None
    error: Failure | None = None


@attrs.frozen(kw_only=True)
class TenantRecord:
    """Where a tenant stands."""

    tenant_id: str
    state: str
    changed_at: datetime
    tier: str | None = None


@attrs.frozen(kw_only=True)
class Progress:
    """What an attempt did and must remember: steps taken, the job started."""

    steps: tuple[Step, ...] = ()
    job: Job | None = None

    def __bool__(self) -> bool:
        return bool(self.steps or self.job)

    def followed_by(self, later: "Progress") -> "Progress":
        """This and what came after it."""
        return Progress(steps=(*self.steps, *later.steps), job=later.job or self.job)


@attrs.frozen(kw_only=True)
class Settlement:
    """How an attempt ended.

    `progress` is what it had not recorded yet, `tenant_state` and `tier` are what it
    makes of the tenant (None: as it was).
    """

    status: RunStatus
    progress: Progress = Progress()
    error: Failure | None = None
    tenant_state: str | None = None
    tier: str | None = None


@attrs.frozen
class Claimed:
    """The run is ours to work on."""

    run: RunRecord


@attrs.frozen
class Duplicate:
    """The event was handled before, by this run."""

    run: RunRecord


@attrs.frozen
class InOtherHands:
    """The event is being handled right now."""

    run: RunRecord


@attrs.frozen
class BodyDiffers:
    """The event key was used before, with another business body."""

    run: RunRecord


Claim = Claimed | Duplicate | InOtherHands | BodyDiffers
