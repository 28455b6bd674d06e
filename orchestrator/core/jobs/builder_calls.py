"""Calls builders: all calls are made here, results are validated, jobs get their builder's name.

A builder may be a user's own. Unexpected exceptions of a lookup, a description or a stop count as
temporary; only one of a start counts as a bug of the attempt, since a job may have been started. A
job's `builder` is set here, whatever the builder has set.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import structlog

from orchestrator.core.errors import OrchestratorError, TemporaryError
from orchestrator.core.events.javascript import is_well_formed
from orchestrator.core.evolve import evolve
from orchestrator.core.jobs.builder import (
    Builder,
    Configurable,
    DescribesJobs,
    FindsJobs,
    FindsJobsAnywhere,
    StopsHarder,
    StopsJobs,
    TellsStarts,
)
from orchestrator.core.jobs.job_description import JobDescription, JobStatus, SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job

#: Bytes of a job's id: it is part of a key in the ledger, and DynamoDB's keys have at most 2048
#: bytes (developer guide, Constraints).
_LONGEST_ID = 1500

log = structlog.get_logger("orchestrator.builder_calls")


def prepare(
    builder: Builder,
    job_identifier: str,
    params: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    start_key: str,
) -> Builder:
    """The builder with these options, if it supports options; checks that the request can be built.

    Raises:
        PermanentError: the start is impossible.
        Exception: raised by the builder.
    """
    if options and isinstance(builder, Configurable):
        builder = builder.configured(options)
    if isinstance(builder, TellsStarts):
        builder.build_start(job_identifier, params, start_key=start_key)
    return builder


async def start_job(
    name: str,
    builder: Builder,
    job_identifier: str,
    params: Mapping[str, Any],
    *,
    start_key: str,
) -> Job:
    """Start a job. A job without an id is identified by its start key.

    Raises:
        TypeError: the builder didn't return a job, though it may have started one.
        Exception: raised by the builder.
    """
    started = await builder.start_job(job_identifier, params, start_key=start_key)
    if started is None:
        started = Job(id=start_key, job_identifier=job_identifier)
    return _read_job(name, started, job_identifier)


async def find_job(
    name: str,
    builder: FindsJobs,
    *,
    start_key: str,
    job_identifier: str,
    is_where_sent: bool,
    started_after: datetime,
) -> Job | None:
    """The job that a start with this key made, None if none is listed.

    `is_where_sent`: the start was sent for `job_identifier`; if False, maybe for another one.

    Raises:
        OrchestratorError: the lookup failed.
    """
    with builder_errors(name, "look up the job of a start"):
        found = await builder.find_job(
            start_key=start_key, job_identifier=job_identifier, started_after=started_after
        )
        if found is None and not is_where_sent and isinstance(builder, FindsJobsAnywhere):
            found = await builder.find_job_anywhere(
                start_key=start_key, started_after=started_after
            )
        return None if found is None else _read_job(name, found, job_identifier)


async def describe_jobs(
    name: str, builder: DescribesJobs, job_ids: Sequence[str]
) -> Mapping[str, JobDescription]:
    """The jobs' descriptions, by id; a job that is left out is unknown to the builder.

    Raises:
        SomeNotDescribed: only some jobs could be described, or a description is invalid.
        OrchestratorError: none could be described, or the query was refused.
    """
    failed, hidden = frozenset[str](), frozenset[str]()
    trouble: str | None = None
    with builder_errors(name, "describe its jobs"):
        try:
            unchecked = dict(await builder.describe_jobs(job_ids=job_ids))
        except SomeNotDescribed as some:
            unchecked, trouble = dict(some.reports), str(some)
            failed, hidden = some.failed, some.hidden
    reports = dict[str, JobDescription]()
    for job_id in job_ids:
        if job_id not in unchecked:
            continue
        try:
            reports[job_id] = _read_report(name, job_id, unchecked[job_id])
        except (TypeError, ValueError) as error:
            log.error(
                "a builder's description of a job can't be read", job_id=job_id, reason=str(error)
            )
            failed, trouble = failed | {job_id}, str(error)
    if trouble is not None:
        raise SomeNotDescribed(trouble, reports=reports, failed=failed, hidden=hidden)
    return reports


async def stop_job(name: str, builder: StopsJobs, job_id: str, *, way: str | None = None) -> None:
    """Stop a job; `way` is one of the ways of a builder that `StopsHarder`.

    Raises:
        OrchestratorError: the builder can't stop it.
    """
    with builder_errors(name, f"stop the job {job_id}"):
        if way is not None and isinstance(builder, StopsHarder):
            await builder.stop_job(job_id=job_id, way=way)
        else:
            await builder.stop_job(job_id=job_id)


@contextmanager
def builder_errors(name: str, cannot: str) -> Iterator[None]:
    """Turn unexpected exceptions of the builder `name` into a TemporaryError; `cannot` is the
    failed action."""
    try:
        yield
    except OrchestratorError:
        raise
    except Exception as error:
        # A user's builder may raise anything; the recorded state of its jobs is unchanged.
        log.error("builder raised an exception", builder=name, exc_info=error)
        raise TemporaryError(
            f"The builder {name} raised an exception: it can't {cannot}."
        ) from error


def _read_job(name: str, job: object, job_identifier: str) -> Job:
    """Validate a job that a builder returned; `job_identifier` is the start's.

    Raises:
        TypeError: it is not a job, or its id is invalid.
    """
    if not isinstance(job, Job):
        raise TypeError(
            f"The builder {name} returned {type(job).__name__}: it must return a Job, or None."
        )
    job_id: object = job.id
    if not isinstance(job_id, str) or not job_id or not is_well_formed(job_id):
        raise TypeError(f"The builder {name} returned a Job whose id is {job_id!r}: give it text.")
    if len(job_id.encode()) > _LONGEST_ID:
        raise TypeError(
            f"The builder {name} returned a Job whose id is longer than {_LONGEST_ID} bytes."
        )
    identifier: object = job.job_identifier
    return evolve(
        job,
        builder=name,
        job_identifier=identifier if isinstance(identifier, str) else job_identifier,
    )


def _read_report(name: str, job_id: str, report: object) -> JobDescription:
    """Validate a builder's description of a job.

    Raises:
        TypeError, ValueError: it is not a description.
    """
    if not isinstance(report, JobDescription) or not isinstance(cast("object", report.job), Job):
        raise TypeError(
            f"The builder {name} described the job {job_id} by {type(report).__name__}: "
            "it must be a JobDescription with a Job."
        )
    is_newer = report.replaces == job_id
    job = report.job if is_newer else evolve(report.job, id=job_id)
    return evolve(
        report,
        job=_read_job(name, job, ""),
        replaces=job_id if is_newer and job.id != job_id else None,
        status=JobStatus(report.status),
        start_key=_text(report.start_key),
        phase=_text(report.phase),
        message=_text(report.message),
        exported=_texts(report.exported),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {
        name: text
        for name, text in value.items()
        if isinstance(name, str) and isinstance(text, str)
    }
