"""A builder's description of a job: its status, and why it ended so."""

from collections.abc import Collection, Mapping
from enum import Enum, StrEnum, auto

import attrs

from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.record_parts import Job


class JobStatus(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAULT = "FAULT"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"


_SENTENCES: Mapping[JobStatus, str] = {
    JobStatus.FAILED: "failed",
    JobStatus.FAULT: "broke down",
    JobStatus.TIMED_OUT: "timed out",
    JobStatus.STOPPED: "was stopped",
}


@attrs.frozen(kw_only=True)
class JobDescription:
    """A job as its builder describes it.

    `start_key` is the job's, None if unknown. `phase` is the one that the job failed in, `message`
    the builder's message about that; `exported` are the job's exported variables. `replaces` is the
    id of the queried job if that is over or gone, and this is the newest one with its start key.
    """

    job: Job
    status: JobStatus
    start_key: str | None = None
    phase: str | None = None
    message: str | None = None
    exported: Mapping[str, str] = attrs.field(factory=dict)
    replaces: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status is not JobStatus.IN_PROGRESS

    @property
    def succeeded(self) -> bool:
        return self.status is JobStatus.SUCCEEDED

    @property
    def reason(self) -> str | None:
        """Why the job didn't succeed, as a sentence; None if it did, or isn't over."""
        verb = _SENTENCES.get(self.status)
        if verb is None:
            return None
        where = f" in {self.phase}" if self.phase else ""
        why = f": {self.message.rstrip('.')}" if self.message else ""
        return f"The job {self.job.id} {verb}{where}{why}."


class NotDescribed(Enum):
    """Why there is no description of a job."""

    #: Its builder can't describe jobs.
    NOT_ASKED = auto()
    #: Its builder failed to describe it.
    FAILED = auto()
    #: Its builder doesn't know the job: it never did, or the job was deleted or discarded.
    UNKNOWN = auto()
    #: Its builder doesn't show the job, which may still run.
    HIDDEN = auto()


#: The result of describing a job.
Answer = JobDescription | NotDescribed


class SomeNotDescribed(TemporaryError):
    """A builder described only some jobs: `reports`, by id.

    The `failed` can't be described now. The `hidden` are not shown, but may still exist. All others
    are unknown to the builder.
    """

    def __init__(
        self,
        message: str,
        *,
        reports: Mapping[str, JobDescription],
        failed: Collection[str] = (),
        hidden: Collection[str] = (),
    ) -> None:
        super().__init__(message)
        self.reports = reports
        self.failed = frozenset(failed)
        self.hidden = frozenset(hidden)
