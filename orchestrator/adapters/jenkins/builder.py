"""Jobs as Jenkins builds: a job identifier is a job's path through its folders, `a/b`.

Jenkins knows no idempotency keys, so that a start is told from others by its parameter
ORCHESTRATOR_RUN_ID alone (Jenkins handbook, Remote access API).
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
from orchestrator.core.ledger.records import Job

#: The name under which Jenkins is registered as a builder.
JENKINS = "JENKINS"

_QUEUE_ITEM_URL = re.compile(r"/queue/item/(\d+)/?$")
#: These may be mended while the event waits; what else is refused is refused for its content.
_MENDABLE = frozenset({401, 403, 407, 408, 409, 421, 425, 429})

log = structlog.get_logger("orchestrator.jenkins")


class JenkinsBuilder:
    permissions: tuple[Permission, ...] = ()
    #: The harder ways are those of pipelines (Jenkins handbook, Aborting a build).
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
        if START_KEY not in job.parameters or job.parameters[START_KEY].is_hidden:
            raise event_mismatch(
                f"The Jenkins job {job_identifier!r} defines no parameter {START_KEY}, which "
                "identifies its builds: add it as a string parameter, no password. One that a "
                "Jenkinsfile declares is there once the job has run."
            )
        known = self._pick(carriers, job.all_builds, job_identifier, start_key)
        if known is not None:
            return known
        values = self.build_start(job_identifier, params, start_key=start_key)["parameters"]
        # Each job is offered a trace; few want it.
        unknown = sorted(values.keys() - job.parameters.keys() - {TRACEPARENT})
        if unknown:
            log.warning(
                "the Jenkins job defines no such parameters, and is started without them",
                job_identifier=job_identifier,
                parameters=unknown,
            )
        # Jenkins would drop the others without a word, and take `delay` or `token` for its own.
        form = {name: value for name, value in values.items() if name in job.parameters}
        for name, value in form.items():
            choices = job.parameters[name].choices
            if choices is not None and value not in choices:
                # Jenkins would answer 500, like one that is out of order.
                raise event_mismatch(
                    f"The Jenkins job {job_identifier!r} leaves {name} a choice of "
                    f"{', '.join(map(str, choices))}, and it is given something else."
                )
        answer = await self._client.post(
            f"{job_path(job_identifier)}buildWithParameters", form=form
        )
        place = await self._started(answer, job_identifier, start_key)
        return identified_job(place, self._name, job.url)

    async def _started(self, answer: Answer, job_identifier: str, start_key: str) -> Place:
        """What a start led to: a queue item, new (201) or joined (303), or its build."""
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

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """How the jobs stand, by their builds, and those without one by their queue items.

        A Jenkins job that isn't there may be one that the user may not see any more, or that has
        another name by now: what runs there is hidden, not gone.
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
        """What there is of one Jenkins job; None: there is no such job.

        What doesn't run may have left the queue since the builds were listed, or may be built again
        (Naginator, Rebuild): whoever does that queues the next build before the last one is over.
        So of such jobs the queue is looked through, and after that the builds once more; what lives
        is in one of the two.
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
        """What has become of the item once it doesn't wait any more; None: Jenkins forgot it."""
        item = await self._find_item(place)
        if item is None or not item.is_waiting:
            return item
        answer = await self._client.post("queue/cancelItem", query={"id": str(place.queue_id)})
        # Versions differ in what they answer, and it may have become a build just now.
        item = await self._find_item(place)
        if item is not None and item.is_waiting:
            raise TemporaryError(
                f"{answer.call} was answered with {answer.status}, and the queue item "
                f"{place.queue_id} still waits: may the user cancel it?"
            )
        return item

    async def _find_item(self, place: Place) -> QueueItem | None:
        item = await self._listings.item(place.queue_id)
        return item if item is not None and item.start_key == place.start_key else None

    async def _stop(self, job_identifier: str, number: int, way: str) -> None:
        """A stopped build is answered with a redirect to where a browser came from."""
        answer = await self._client.post(f"{job_path(job_identifier)}{number}/{way}")
        if answer.status == 404 and way != "stop":
            # No pipeline, or gone by now.
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

    def _report(self, build: Build, job_identifier: str) -> JobDescription:
        return build.report(job_identifier, self._name, unstable=self._unstable)


@attrs.define
class _Once:
    """The queue, listed when it is first asked for."""

    _list: Callable[[], Awaitable[Sequence[QueueItem]]]
    _listed: Sequence[QueueItem] | None = None

    async def find(self, job_identifier: str, start_key: str) -> QueueItem | None:
        """What waits to be built as that job and carries the key; the newest, if several do."""
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
) -> AsyncIterator[JenkinsBuilder]:
    """Jenkins for the life of the app.

    `token` gives the API token valid now; `timeout_s` is for a whole answer.
    """
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s),
        # A crumb counts with its session's cookie alone, also where the url has an IP address.
        cookie_jar=aiohttp.CookieJar(unsafe=True),
    ) as http:
        client = JenkinsClient(http, url=url, user=user, token=token)
        yield JenkinsBuilder(client, url=url, name=name, unstable_is_success=unstable_is_success)


def _refused(answer: Answer, job_identifier: str) -> OrchestratorError:
    """What it comes to that a start was not taken."""
    if answer.status == 404:
        return _missing(job_identifier)
    error = answer.refusal()
    if 400 <= answer.status < 500 and answer.status not in _MENDABLE:
        return PermanentError(str(error))
    return error


def _instead_of(place: Place, report: JobDescription) -> JobDescription:
    """The report on what carries the start key now, as an answer about the job at that place."""
    job_id = place.job_id
    return report if report.job.id == job_id else evolve(report, replaces=job_id)


def _missing(job_identifier: str) -> PermanentError:
    return event_mismatch(
        f"There is no Jenkins job {job_identifier!r} that the user may see: create it, or correct "
        "the tier's job identifier."
    )
