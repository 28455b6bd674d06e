"""Builders start jobs: the port, and the optional abilities of a builder."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.record_parts import Job


class Builder(Protocol):
    """Starts jobs. Only `start_job` is required; the protocols below are optional abilities."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        """Start a job with `params`, which are JSON values, as its variables.

        None: it has no id, and is identified by its start key. Its `builder` may be omitted.
        The same `start_key` (at most 64 characters) never starts a second job. A
        TemporaryError with `nothing_done` says that certainly none was started.
        """


@runtime_checkable
class FindsJobs(Protocol):
    """A builder with a lookup: it finds the job of a start whose answer was lost."""

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The job that a start with this key made, None if none is listed.

        `job_identifier` is the start's or, after a crash that lost it, the one that would be
        started now; empty if that is unknown, too.
        """


@runtime_checkable
class FindsJobsAnywhere(Protocol):
    """A builder that can look up a start's job without its job identifier."""

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        """Like `find_job`, which is called first, but among the jobs of all identifiers."""


@runtime_checkable
class DescribesJobs(Protocol):
    """A builder that can describe its jobs. Its answer takes precedence over self-reports."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """The jobs' descriptions, by id; a job that is left out is unknown to the builder.

        Raises:
            SomeNotDescribed: only some jobs could be described.
        """


@runtime_checkable
class OwnsJobs(Protocol):
    """A builder on which other programs may run jobs with one of the service's start keys."""

    def owns(self, job_id: str) -> bool:
        """Whether a start of the service may have made the job."""


@runtime_checkable
class StopsJobs(Protocol):
    """A builder that can end a job early."""

    async def stop_job(self, *, job_id: str) -> None:
        """Stop the job; no effect if it is over or unknown."""


@runtime_checkable
class StopsHarder(StopsJobs, Protocol):
    """A builder with several ways to stop a job, for jobs that ignore the first."""

    #: Their names, the mildest first.
    stop_ways: Sequence[str]

    async def stop_job(self, *, job_id: str, way: str = "") -> None:
        """Stop the job in this way; by default in the mildest."""


@runtime_checkable
class Configurable(Protocol):
    """A builder whose jobs have options besides their variables."""

    def configured(self, options: Mapping[str, Any]) -> Builder:
        """The same builder with these options for its starts.

        Raises:
            PermanentError: an option is unknown, or its value is invalid.
        """


@runtime_checkable
class TellsStarts(Protocol):
    """A builder that can build the request of a start: called before each, and by a dry run."""

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        """The request that `start_job` would send. Raises PermanentError as `start_job` would."""
