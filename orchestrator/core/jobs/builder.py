"""Builders start jobs: the port, and the optional abilities of a builder."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.records import Job


class Builder(Protocol):
    """Starts jobs. A user's own has `start_job` at least; the rest are protocols below."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        """Start a job with `params`, which are JSON values, as its variables.

        None: it has no id, and is known by its start key. Its `builder` may be left out.
        The same `start_key` (at most 64 characters) never starts a second job. A
        TemporaryError says with `nothing_done` that it surely started none.
        """


@runtime_checkable
class FindsJobs(Protocol):
    """A builder that can tell what a start made whose answer was lost."""

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The job that a start with this key made, None if none is to be seen.

        `job_identifier` is what was to be started or, where nobody knows that any more, what would
        be started now; empty: not even that is known.
        """


@runtime_checkable
class FindsJobsAnywhere(Protocol):
    """A builder that can look for a start's job without being told what was to be started."""

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        """As `find_job`, which is asked before: among the jobs of all identifiers."""


@runtime_checkable
class DescribesJobs(Protocol):
    """A builder that can tell how its jobs stand. Its word outranks a job's own."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """How the jobs stand, by their ids; one that is left out the builder doesn't know.

        Raises:
            SomeNotDescribed: it could tell of some only.
        """


@runtime_checkable
class OwnsJobs(Protocol):
    """A builder on which others may run something under one of our start keys."""

    def owns(self, job_id: str) -> bool:
        """Whether a start of ours may have made it."""


@runtime_checkable
class StopsJobs(Protocol):
    """A builder that can end a job early."""

    async def stop_job(self, *, job_id: str) -> None:
        """Have the job stopped; one that is over or gone is left alone."""


@runtime_checkable
class StopsHarder(StopsJobs, Protocol):
    """A builder that has harder ways to end a job, for one that doesn't heed the first."""

    #: Their names, the mildest first.
    stop_ways: Sequence[str]

    async def stop_job(self, *, job_id: str, way: str = "") -> None:
        """Have the job stopped that way; by the mildest, unless one is named."""


@runtime_checkable
class Configurable(Protocol):
    """A builder that can be told how to run a job, besides its variables."""

    def configured(self, options: Mapping[str, Any]) -> Builder:
        """The same builder, whose starts have these options.

        Raises:
            PermanentError: there is no such option, or its value is wrong.
        """


@runtime_checkable
class TellsStarts(Protocol):
    """A builder that can tell what a start would be: asked before each, and by a dry run."""

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        """The request that `start_job` would send. Raises PermanentError as that would."""
