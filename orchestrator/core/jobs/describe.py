"""Queries builders for the descriptions of jobs."""

from collections.abc import Mapping, Sequence

import attrs
import structlog

from orchestrator.core.errors import (
    PermanentError,
    TemporaryError,
)
from orchestrator.core.identifiers import is_operation_id, read_start_key
from orchestrator.core.jobs import builder_calls
from orchestrator.core.jobs.builder import Builder, DescribesJobs, OwnsJobs
from orchestrator.core.jobs.job_description import (
    Answer,
    JobDescription,
    NotDescribed,
    SomeNotDescribed,
)
from orchestrator.core.ledger.record_parts import Job

log = structlog.get_logger("orchestrator.describe")


@attrs.frozen
class Answers:
    """The answers about jobs, by id; `trouble` is why some couldn't be described."""

    by_job: Mapping[str, Answer]
    trouble: TemporaryError | None = None


@attrs.frozen
class JobDescriber:
    """Describes jobs by querying their builders."""

    builders: Mapping[str, Builder]

    @property
    def describable(self) -> frozenset[str]:
        """The builders that can describe jobs."""
        return frozenset(
            name for name, builder in self.builders.items() if isinstance(builder, DescribesJobs)
        )

    async def describe(self, job: Job) -> JobDescription | None:
        """The job's description by its builder; None if the builder doesn't know the job.

        Raises:
            TemporaryError: the builder can't be reached.
        """
        return (await self._describe_some(job.builder, [job.id])).get(job.id)

    async def answers(self, name: str, job_ids: Sequence[str]) -> Answers:
        """An answer for each of the jobs of one builder."""
        if name not in self.describable:
            return Answers(dict.fromkeys(job_ids, NotDescribed.NOT_ASKED))
        try:
            known = await self._describe_some(name, job_ids)
        except SomeNotDescribed as error:
            log.warning("some jobs can't be asked about", builder=name, reason=str(error))
            answers: dict[str, Answer] = {
                **dict.fromkeys(job_ids, NotDescribed.UNKNOWN),
                **error.reports,
                **dict.fromkeys(error.hidden, NotDescribed.HIDDEN),
                **dict.fromkeys(error.failed, NotDescribed.FAILED),
            }
            return Answers(answers, error if error.failed else None)
        except TemporaryError as error:
            log.warning("jobs can't be asked about", builder=name, reason=str(error))
            return Answers(dict.fromkeys(job_ids, NotDescribed.FAILED), error)
        return Answers({**dict.fromkeys(job_ids, NotDescribed.UNKNOWN), **known})

    async def _describe_some(
        self, name: str, job_ids: Sequence[str]
    ) -> Mapping[str, JobDescription]:
        """The jobs' descriptions, without jobs for which the builder refuses the query.

        A refusal doesn't name the job at fault, so the query is repeated for each half.
        """
        builder: object = self.builders.get(name)
        if not isinstance(builder, DescribesJobs):
            return {}
        try:
            return await builder_calls.describe_jobs(name, builder, job_ids)
        except PermanentError as error:
            if len(job_ids) == 1:
                log.warning("job can't be described", job_id=job_ids[0], reason=str(error))
                return {}
            half = len(job_ids) // 2
            return await self._describe_parts(name, job_ids[:half], job_ids[half:])

    async def _describe_parts(
        self, name: str, *parts: Sequence[str]
    ) -> Mapping[str, JobDescription]:
        """The descriptions of all parts; an error of one doesn't affect the jobs of another."""
        reports, failed, hidden = dict[str, JobDescription](), set[str](), set[str]()
        trouble: TemporaryError | None = None
        for part in parts:
            try:
                reports |= await self._describe_some(name, part)
            except SomeNotDescribed as error:
                trouble = error
                reports |= error.reports
                failed |= error.failed
                hidden |= error.hidden
            except TemporaryError as error:
                trouble = error
                failed |= set(part)
        if trouble is None:
            return reports
        raise SomeNotDescribed(str(trouble), reports=reports, failed=failed, hidden=hidden)

    def start_of(self, report: JobDescription) -> tuple[str, int] | None:
        """The operation and start number in the job's start key, if the service may have started
        the job: other programs may use a start key, too."""
        named = read_start_key(report.start_key or "")
        builder: object = self.builders.get(report.job.builder)
        is_foreign = isinstance(builder, OwnsJobs) and not builder.owns(report.job.id)
        if named is None or builder is None or is_foreign or not is_operation_id(named[0]):
            return None
        return named


def not_shown_yet(job: Job) -> TemporaryError:
    return TemporaryError(f"{job.builder} doesn't show the job {job.id} yet.")
