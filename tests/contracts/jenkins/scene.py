"""A builder of the stand-in for Jenkins, and what tests ask of it."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import attrs

from orchestrator.adapters.jenkins.builder import JenkinsBuilder, open_jenkins
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.record_parts import Job
from tests.jenkins.stand_in import TOKEN, USER, JenkinsStandIn

JOB = "tenants/basic"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
VALUE = "what only the build may know"
BUILD_PATH = "/job/tenants/job/basic/buildWithParameters"


@attrs.define
class Safe:
    """Where the token is kept; it may change."""

    token: str = TOKEN

    async def open(self) -> str:
        return self.token


def open_builder(
    jenkins: JenkinsStandIn, safe: Safe, **options: Any
) -> AbstractAsyncContextManager[JenkinsBuilder]:
    given: dict[str, Any] = {"url": jenkins.url, "connect_timeout_s": 5, "timeout_s": 10}
    return open_jenkins(user=USER, token=safe.open, name="JENKINS", **{**given, **options})


async def start(
    builder: JenkinsBuilder, start_key: str = "op-1", job: str = JOB, **params: Any
) -> Job:
    return await builder.start_job(job, params, start_key=start_key)


async def describe(builder: JenkinsBuilder, job: Job) -> JobDescription | None:
    return (await builder.describe_jobs(job_ids=[job.id])).get(job.id)


def posts(jenkins: JenkinsStandIn) -> list[str]:
    return [path for method, path, _ in jenkins.requests if method == "POST"]


def wants_login(jenkins: JenkinsStandIn) -> None:
    jenkins.wants_login = True
