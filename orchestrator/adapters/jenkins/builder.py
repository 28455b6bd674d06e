"""Jobs as Jenkins builds: a job identifier is a job's path through its folders, `a/b`.

Jenkins knows no idempotency keys, so that a start is told from others by its parameter
ORCHESTRATOR_RUN_ID alone (Jenkins handbook, Remote access API).
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aiohttp
import structlog

from orchestrator.adapters.jenkins.builds import (
    Build,
    QueueItem,
    identified_job,
    job_path,
    read_job_id,
)
from orchestrator.adapters.jenkins.client import Answer, JenkinsClient
from orchestrator.adapters.jenkins.listings import JenkinsListings
from orchestrator.core.errors import PayloadMismatch, PermanentError, TemporaryError
from orchestrator.core.javascript import to_text
from orchestrator.core.jobs import JobReport, JobStatus
from orchestrator.core.ports import Permission
from orchestrator.core.records import Job
from orchestrator.core.variables import START_KEY

_QUEUE_ITEM_URL = re.compile(r"/queue/item/(\d+)/?$")
#: Each job is offered one; few want it.
_TRACEPARENT = "TRACEPARENT"
#: These may be mended while the event waits; what else is refused is refused for its content.
_MENDABLE = frozenset({401, 403, 407, 408, 409, 421, 425, 429})

log = structlog.get_logger("orchestrator.jenkins")


class JenkinsBuilder:
    permissions: tuple[Permission, ...] = ()

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        user: str,
        token: Callable[[], Awaitable[str]],
        name: str,
        unstable_is_success: bool = False,
    ) -> None:
        """`http` keeps cookies, of IP addresses too; `token` gives the API token valid now."""
        self._client = JenkinsClient(http, url=url, user=user, token=token)
        self._listings = JenkinsListings(self._client)
        self._name = name
        self._unstable = JobStatus.SUCCEEDED if unstable_is_success else JobStatus.FAILED
        self.description = f"Jenkins at {url}"

    async def check(self) -> None:
        await self._listings.check()

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """Have the job `job_identifier` built, unless the start key is in its queue or builds.

        Jenkins itself merges equal starts, but only as long as the first one waits.
        """
        carriers = await self._carriers(start_key)
        job = await self._listings.find_job(job_identifier)
        if job is None:
            raise _missing(job_identifier)
        if START_KEY not in job.parameters:
            raise _refused(
                f"The Jenkins job {job_identifier!r} defines no parameter {START_KEY}, by which "
                "its builds are known: add it as a string parameter. One that a Jenkinsfile "
                "declares is there once the job has run."
            )
        known = self._pick(carriers, job.all_builds, job_identifier, start_key)
        if known is not None:
            return known
        values = self.build_start(job_identifier, params, start_key=start_key)["parameters"]
        unknown = sorted(values.keys() - job.parameters - {_TRACEPARENT})
        if unknown:
            log.warning(
                "the Jenkins job defines no such parameters, and is started without them",
                job_identifier=job_identifier,
                parameters=unknown,
            )
        # Jenkins would drop the others without a word, and take `delay` or `token` for its own.
        form = {name: value for name, value in values.items() if name in job.parameters}
        answer = await self._client.post(
            f"{job_path(job_identifier)}buildWithParameters", form=form
        )
        return identified_job(_queued(answer, job_identifier), job_identifier, self._name, job.url)

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        """The job and its parameters; of those Jenkins is sent what the job defines."""
        values = {
            name: to_text(value)
            for name, value in {**params, START_KEY: start_key}.items()
            if value is not None
        }
        return {"job": job_identifier, "parameters": values}

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The job that carries the start key: in the queue, or among the builds since.

        Of other jobs than `job_identifier` only what waits is seen: Jenkins lists builds by job.
        """
        # The queue first: what leaves it in between is among the builds.
        carriers = await self._carriers(start_key)
        builds: list[Build] = []
        async for page in self._listings.pages(job_identifier):
            builds.extend(build for build in page if build.start_key == start_key)
            if builds or not page or page[-1].timestamp < started_after.timestamp() * 1000:
                break
        return self._pick(carriers, builds, job_identifier, start_key)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobReport]:
        """How the jobs stand, by their builds, and those without one by their queue items.

        An item that is gone may have become a build since the builds were listed, so that for
        such items all of them are listed again: a job that lives is in one of the two.
        """
        asked: defaultdict[str, set[int]] = defaultdict(set)
        for job_id in job_ids:
            if place := read_job_id(job_id):
                asked[place[0]].add(place[1])
        reports: list[JobReport] = []
        waiting: Mapping[int, QueueItem] | None = None
        for job_identifier, queue_ids in asked.items():
            builds = await self._listings.builds(job_identifier, queue_ids)
            if builds is None:
                continue
            rest = queue_ids - builds.keys()
            if rest and waiting is None:
                waiting = {item.id: item for item in await self._listings.queue()}
            gone = set()
            for queue_id in rest:
                item = (waiting or {}).get(queue_id) or await self._listings.item(queue_id)
                if item is None:
                    gone.add(queue_id)
                else:
                    reports.append(item.report(job_identifier, self._name))
            if gone:
                builds |= await self._listings.builds(job_identifier, gone, to_the_end=True) or {}
            reports.extend(self._report(build, job_identifier) for build in builds.values())
        return {report.job.id: report for report in reports}

    async def stop_job(self, *, job_id: str) -> None:
        place = read_job_id(job_id)
        builds = await self._listings.builds(place[0], {place[1]}) if place else None
        if place is None or builds is None:
            return
        job_identifier, queue_id = place
        if queue_id not in builds:
            item = await self._cancel(queue_id)
            if item is not None:
                if item.executable is not None:
                    await self._stop(job_identifier, item.executable.number)
                return
            builds = await self._listings.builds(job_identifier, {queue_id}, to_the_end=True) or {}
        if queue_id in builds and not builds[queue_id].is_over:
            await self._stop(job_identifier, builds[queue_id].number)

    async def _cancel(self, queue_id: int) -> QueueItem | None:
        """What has become of the item once it doesn't wait any more; None: Jenkins forgot it."""
        item = await self._listings.item(queue_id)
        if item is None or not item.is_waiting:
            return item
        answer = await self._client.post("queue/cancelItem", query={"id": str(queue_id)})
        # Versions differ in what they answer, and it may have become a build just now.
        item = await self._listings.item(queue_id)
        if item is not None and item.is_waiting:
            raise TemporaryError(
                f"{answer.call} was answered with {answer.status}, and the queue item {queue_id} "
                "still waits: may the user cancel it?"
            )
        return item

    async def _stop(self, job_identifier: str, number: int) -> None:
        """A stopped build is answered with a redirect to where a browser came from."""
        answer = await self._client.post(f"{job_path(job_identifier)}{number}/stop")
        if answer.is_login or (answer.status >= 400 and answer.status != 404):
            raise answer.refusal()

    async def _carriers(self, start_key: str) -> list[QueueItem]:
        return [item for item in await self._listings.queue() if item.start_key == start_key]

    def _pick(
        self,
        carriers: Sequence[QueueItem],
        builds: Sequence[Build],
        job_identifier: str,
        start_key: str,
    ) -> Job | None:
        """What carries the start key; last what waits for another job, which may be a child's
        that was handed its parent's parameters."""
        for item in carriers:
            if item.job_identifier == job_identifier:
                return item.report(job_identifier, self._name).job
        for build in builds:
            if build.start_key == start_key:
                return self._report(build, job_identifier).job
        for item in carriers:
            return item.report(item.job_identifier or job_identifier, self._name).job
        return None

    def _report(self, build: Build, job_identifier: str) -> JobReport:
        return build.report(job_identifier, self._name, unstable=self._unstable)


@asynccontextmanager
async def open_jenkins(
    *,
    url: str,
    user: str,
    token: Callable[[], Awaitable[str]],
    name: str,
    unstable_is_success: bool = False,
    connect_timeout_s: float,
    timeout_s: float,
) -> AsyncIterator[JenkinsBuilder]:
    """Jenkins for the life of the app; `timeout_s` is for a whole answer."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s),
        # A crumb counts with its session's cookie alone, also where the url has an IP address.
        cookie_jar=aiohttp.CookieJar(unsafe=True),
    ) as http:
        yield JenkinsBuilder(
            http,
            url=url,
            user=user,
            token=token,
            name=name,
            unstable_is_success=unstable_is_success,
        )


def _queued(answer: Answer, job_identifier: str) -> int:
    """The id of the queue item that a start has made."""
    item = _QUEUE_ITEM_URL.search(answer.location)
    if answer.status == 201 and item:
        return int(item[1])
    if answer.status == 404:
        raise _missing(job_identifier)
    error = answer.refusal()
    if 400 <= answer.status < 500 and answer.status not in _MENDABLE:
        raise PermanentError(str(error))
    raise error


def _missing(job_identifier: str) -> PermanentError:
    return _refused(
        f"There is no Jenkins job {job_identifier!r} that the user may see: create it, or mend "
        "the tier's job identifier."
    )


def _refused(sentence: str) -> PermanentError:
    return PermanentError(sentence, errors=[PayloadMismatch("$", sentence)])
