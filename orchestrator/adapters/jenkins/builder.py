"""Runs jobs as Jenkins builds: a job identifier is a Jenkins job's path through its folders, `a/b`.

Jenkins has no idempotency keys, so a start is identified only by its parameter
ORCHESTRATOR_RUN_ID (Jenkins handbook, Remote access API).
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aiohttp
import attrs
import structlog

from orchestrator.adapters.jenkins.builds import (
    Build,
    Place,
    QueueItem,
    identified_job,
    job_path,
    read_build_url,
    read_job_id,
)
from orchestrator.adapters.jenkins.client import Answer, JenkinsClient
from orchestrator.adapters.jenkins.listings import Built, JenkinsListings
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import (
    OrchestratorError,
    PermanentError,
    TemporaryError,
    event_mismatch,
)
from orchestrator.core.events.javascript import to_text
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import START_KEY, TRACEPARENT
from orchestrator.core.jobs.job_description import JobDescription, JobStatus, SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.urls import shown_url

#: The name under which Jenkins is registered as a builder.
JENKINS = "JENKINS"

_QUEUE_ITEM_URL = re.compile(r"/queue/item/(\d+)/?$")
#: Client errors that an operator or a retry can fix; any other refuses the request's content.
_MENDABLE = frozenset({401, 403, 407, 408, 409, 421, 425, 429})

log = structlog.get_logger("orchestrator.jenkins")


class JenkinsBuilder:
    permissions: tuple[Permission, ...] = ()
    #: Escalating; only pipelines have the harder ones (Jenkins handbook, Aborting a build).
    stop_ways: Sequence[str] = ("stop", "term", "kill")

    def __init__(
        self,
        client: JenkinsClient,
        *,
        url: str,
        name: str,
        unstable_is_success: bool = False,
    ) -> None:
        self._client = client
        self._listings = JenkinsListings(client)
        self._name = name
        self._unstable = JobStatus.SUCCEEDED if unstable_is_success else JobStatus.FAILED
        self.description = f"Jenkins at {shown_url(url)}"

    async def check(self) -> None:
        await self._listings.check()

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """Build the job `job_identifier`, unless its queue or builds already have the start key.

        Jenkins itself merges equal starts, but only while the first one is in the queue.
        """
        carriers = await self._carriers(start_key)
        job = await self._listings.find_job(job_identifier)
        if job is None:
            raise _missing(job_identifier)
        if START_KEY not in job.parameters or job.parameters[START_KEY].is_hidden:
            raise event_mismatch(
                f"The Jenkins job {job_identifier!r} defines no parameter {START_KEY}, which "
                "identifies its builds: add it as a string parameter, not a password. One that a "
                "Jenkinsfile declares exists once the job has run."
            )
        known = self._pick(carriers, job.all_builds, job_identifier, start_key)
        if known is not None:
            return known
        values = self.build_start(job_identifier, params, start_key=start_key)["parameters"]
        # The trace is optional: most jobs don't define it.
        unknown = sorted(values.keys() - job.parameters.keys() - {TRACEPARENT})
        if unknown:
            log.warning(
                "the Jenkins job defines no such parameters, and is started without them",
                job_identifier=job_identifier,
                parameters=unknown,
            )
        # Jenkins would silently drop the others, and interpret `delay` or `token` itself.
        form = {name: value for name, value in values.items() if name in job.parameters}
        for name, value in form.items():
            choices = job.parameters[name].choices
            if choices is not None and value not in choices:
                # Jenkins would answer 500, as in an outage.
                raise event_mismatch(
                    f"The Jenkins job {job_identifier!r} allows {name} only the choices "
                    f"{', '.join(map(str, choices))}, and the value is another one."
                )
        answer = await self._client.post(
            f"{job_path(job_identifier)}buildWithParameters", form=form
        )
        place = await self._started(answer, job_identifier, start_key)
        return identified_job(place, self._name, job.url)

    async def _started(self, answer: Answer, job_identifier: str, start_key: str) -> Place:
        """The result of a start: a queue item, new (201) or an equal one (303), or its build."""
        is_taken = answer.status in (201, 303)
        if is_taken and (item := _QUEUE_ITEM_URL.search(answer.target)):
            return Place(job_identifier, int(item[1]), start_key)
        if is_taken and (number := read_build_url(answer.target, job_identifier)) is not None:
            try:
                build = await self._listings.build(job_identifier, number)
            except TemporaryError as error:
                error.nothing_done = False
                raise
            if build is not None and build.start_key == start_key:
                return build.place(job_identifier)
            raise TemporaryError(
                f"{answer.call} was answered with the build {number}, which doesn't carry the "
                "start key: the start is looked up."
            )
        raise _refused(answer, job_identifier)

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        """The job and its parameters; only those that the Jenkins job defines are sent."""
        values = {
            name: to_text(value)
            for name, value in {**params, START_KEY: start_key}.items()
            if value is not None
        }
        return {"job": job_identifier, "parameters": values}

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The job with the start key: in the queue, or among the builds since.

        For other Jenkins jobs than `job_identifier` only the queue is searched, since Jenkins lists
        builds by job.
        """
        # The queue first: an item that leaves it meanwhile is then among the builds.
        carriers = await self._carriers(start_key)
        builds: list[Build] = []
        async for page in self._listings.pages(job_identifier):
            builds.extend(build for build in page if build.start_key == start_key)
            if builds or not page or page[-1].timestamp < started_after.timestamp() * 1000:
                break
        return self._pick(carriers, builds, job_identifier, start_key)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """Describe jobs by their builds, those without a build by their queue items.

        A Jenkins job that isn't found may have been renamed, or hidden from the user: its builds
        are hidden, not gone.
        """
        asked: defaultdict[str, dict[str, Place]] = defaultdict(dict)
        for job_id in job_ids:
            if place := read_job_id(job_id):
                asked[place.job_identifier][job_id] = place
        reports: dict[str, JobDescription] = {}
        failed, hidden = set[str](), set[str]()
        trouble: TemporaryError | None = None
        queue = _Once(self._listings.queue)
        for job_identifier, places in asked.items():
            try:
                found = await self._describe(job_identifier, places.values(), queue)
            except TemporaryError as error:
                trouble, failed = error, failed | places.keys()
                continue
            if found is None:
                hidden |= places.keys()
            else:
                reports |= {report.replaces or report.job.id: report for report in found}
        if trouble is not None and len(failed) == len(job_ids):
            raise trouble
        if failed or hidden:
            said = str(trouble) if trouble else "Jenkins shows no such job any more."
            raise SomeNotDescribed(said, reports=reports, failed=failed, hidden=hidden)
        return reports

    async def _describe(
        self, job_identifier: str, wanted: Collection[Place], queue: "_Once"
    ) -> list[JobDescription] | None:
        """Describe the builds of one Jenkins job; None if Jenkins has no such job.

        A job without a running build may have left the queue since the builds were listed, or may
        be rebuilt (Naginator, Rebuild, which queue the next build before the last one is over). So
        for such jobs the queue is searched, then the builds again: an active one is in one of them.
        """
        first = await self._listings.builds(job_identifier, wanted)
        if first is None:
            return None
        running = {place: build for place, build in first.found.items() if not build.is_over}
        reports = [self._report(build, job_identifier) for build in running.values()]
        cancelled, rest = dict[Place, QueueItem](), list[Place]()
        for place in (place for place in wanted if place not in running):
            waiting = await queue.find(job_identifier, place.start_key)
            if waiting is not None:
                reports.append(_instead_of(place, waiting.report(job_identifier, self._name)))
                continue
            rest.append(place)
            item = None if place in first.found else await self._find_item(place)
            if item is not None and item.cancelled:
                cancelled[place] = item
        if not rest:
            return reports
        to_the_end = any(place not in first.found for place in rest)
        last = await self._listings.builds(job_identifier, rest, to_the_end=to_the_end) or Built()
        for place in rest:
            build, newest = last.found.get(place), last.newest.get(place.start_key)
            if newest is not None and (build is None or build.is_over):
                reports.append(_instead_of(place, self._report(newest, job_identifier)))
            elif build is not None:
                reports.append(self._report(build, job_identifier))
            elif place in cancelled:
                reports.append(cancelled[place].report(job_identifier, self._name))
        return reports

    async def stop_job(self, *, job_id: str, way: str = "stop") -> None:
        place = read_job_id(job_id)
        if place is None:
            return
        builds = await self._listings.builds(place.job_identifier, [place])
        if builds is None:
            return
        if not builds.found:
            item = await self._cancel(place)
            if item is not None:
                if item.executable is not None:
                    await self._stop(place.job_identifier, item.executable.number, way)
                return
            builds = await self._listings.builds(place.job_identifier, [place], to_the_end=True)
        for build in (builds or Built()).found.values():
            if not build.is_over:
                await self._stop(place.job_identifier, build.number, way)

    async def _cancel(self, place: Place) -> QueueItem | None:
        """Cancel a queue item; returns it once it has left the queue, None if it is unknown."""
        item = await self._find_item(place)
        if item is None or not item.is_waiting:
            return item
        answer = await self._client.post("queue/cancelItem", query={"id": str(place.queue_id)})
        # The answer depends on Jenkins' version, and the item may just have become a build.
        item = await self._find_item(place)
        if item is not None and item.is_waiting:
            raise TemporaryError(
                f"{answer.call} was answered with {answer.status}, and the queue item "
                f"{place.queue_id} still waits: check the user's permission to cancel it."
            )
        return item

    async def _find_item(self, place: Place) -> QueueItem | None:
        item = await self._listings.item(place.queue_id)
        return item if item is not None and item.start_key == place.start_key else None

    async def _stop(self, job_identifier: str, number: int, way: str) -> None:
        """Stop a build; Jenkins answers with a redirect."""
        answer = await self._client.post(f"{job_path(job_identifier)}{number}/{way}")
        if answer.status == 404 and way != "stop":
            # Not a pipeline, or deleted meanwhile.
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
        """The item or build with the start key. Queue items of another Jenkins job come last: they
        may be of a child job with its parent's parameters."""
        for item in carriers:
            if item.job_identifier == job_identifier:
                return item.report(job_identifier, self._name).job
        for build in builds:
            if build.start_key == start_key:
                return self._report(build, job_identifier).job
        for item in carriers:
            return item.report(item.job_identifier or job_identifier, self._name).job
        return None

    def _report(self, build: Build, job_identifier: str) -> JobDescription:
        return build.report(job_identifier, self._name, unstable=self._unstable)


@attrs.define
class _Once:
    """The queue, listed on first use."""

    _list: Callable[[], Awaitable[Sequence[QueueItem]]]
    _listed: Sequence[QueueItem] | None = None

    async def find(self, job_identifier: str, start_key: str) -> QueueItem | None:
        """The newest queue item of that Jenkins job with the start key."""
        if self._listed is None:
            self._listed = sorted(await self._list(), key=lambda item: -item.id)
        carriers = (item for item in self._listed if item.start_key == start_key)
        return next((item for item in carriers if item.job_identifier == job_identifier), None)


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
    trace_configs: list[aiohttp.TraceConfig] | None = None,
) -> AsyncIterator[JenkinsBuilder]:
    """The Jenkins builder for the life of the app.

    `token` returns the current API token; `timeout_s` is for a whole answer.
    """
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s),
        # A crumb is valid only with its session's cookie, also if the url has an IP address.
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        trace_configs=trace_configs,
    ) as http:
        client = JenkinsClient(http, url=url, user=user, token=token)
        yield JenkinsBuilder(client, url=url, name=name, unstable_is_success=unstable_is_success)


def _refused(answer: Answer, job_identifier: str) -> OrchestratorError:
    """The error of a start that Jenkins refused."""
    if answer.status == 404:
        return _missing(job_identifier)
    error = answer.refusal()
    if 400 <= answer.status < 500 and answer.status not in _MENDABLE:
        return PermanentError(str(error))
    return error


def _instead_of(place: Place, report: JobDescription) -> JobDescription:
    """The description of the newer build with the start key, as the answer for the job at
    `place`."""
    job_id = place.job_id
    return report if report.job.id == job_id else evolve(report, replaces=job_id)


def _missing(job_identifier: str) -> PermanentError:
    return event_mismatch(
        f"There is no Jenkins job {job_identifier!r} that the user may see: create it, or correct "
        "the tier's job identifier."
    )
