"""Lists Jenkins' queue, and the builds of a job."""

from collections.abc import AsyncIterator, Collection

import attrs

from orchestrator.adapters.jenkins.builds import (
    BUILD,
    QUEUE_ITEM,
    Build,
    JobDocument,
    Place,
    Queue,
    QueueItem,
    Server,
    job_path,
)
from orchestrator.adapters.jenkins.client import JenkinsClient
from orchestrator.core.errors import TemporaryError

_PAGE = 100
_DEFINITIONS = "url,property[parameterDefinitions[name,type,choices]]"


@attrs.frozen
class Built:
    """Builds of a job: the requested ones, and the newest build of each of their start keys."""

    found: dict[Place, Build] = attrs.field(factory=dict)
    newest: dict[str, Build] = attrs.field(factory=dict)


class JenkinsListings:
    def __init__(self, client: JenkinsClient) -> None:
        self._client = client

    async def check(self) -> None:
        """Raises TemporaryError unless Jenkins answers."""
        if await self._client.find("", Server, tree="mode") is None:
            raise TemporaryError(
                "There is no Jenkins at this address: check its url.", nothing_done=True
            )

    async def find_job(self, job_identifier: str) -> JobDocument | None:
        """The job's parameter definitions, and its newest builds."""
        return await self._find(job_identifier, f"{_DEFINITIONS},{_page(0)}")

    async def pages(self, job_identifier: str) -> AsyncIterator[list[Build]]:
        """The job's builds, the newest first; no page if there is no such job."""
        start = 0
        while job := await self._find(job_identifier, _page(start)):
            yield job.all_builds
            if len(job.all_builds) < _PAGE:
                return
            start += _PAGE

    async def builds(
        self, job_identifier: str, wanted: Collection[Place], *, to_the_end: bool = False
    ) -> Built | None:
        """The wanted builds of the job, and newer builds with their start keys; None if there is no
        such job.

        The search ends at a page whose queue ids are all lower than the wanted ones, which is right
        unless an item overtook a whole page of others; `to_the_end` searches all pages.
        """
        keys = {one.start_key for one in wanted}
        built: Built | None = None
        async for page in self.pages(job_identifier):
            built = built or Built()
            for build in page:
                if (place := build.place(job_identifier)) in wanted:
                    built.found.setdefault(place, build)
                if place.start_key in keys:
                    built.newest.setdefault(place.start_key, build)
            missing = (one.queue_id for one in wanted if one not in built.found)
            oldest = min(missing, default=None)
            if oldest is None:
                break
            if not to_the_end and all(build.queue_id < oldest for build in page):
                break
        return built

    async def build(self, job_identifier: str, number: int) -> Build | None:
        return await self._client.find(f"{job_path(job_identifier)}{number}/", Build, tree=BUILD)

    async def queue(self) -> list[QueueItem]:
        queue = await self._client.find("queue/", Queue, tree=f"items[{QUEUE_ITEM}]")
        if queue is None:
            raise TemporaryError(
                "Jenkins has no queue at this address: check its url.", nothing_done=True
            )
        return queue.items

    async def item(self, queue_id: int) -> QueueItem | None:
        return await self._client.find(f"queue/item/{queue_id}/", QueueItem, tree=QUEUE_ITEM)

    async def _find(self, job_identifier: str, tree: str) -> JobDocument | None:
        path = job_path(job_identifier)
        job = await self._client.find(path, JobDocument, tree=tree) if path else None
        if job is None:
            # A wrong url answers 404, too, which says nothing about the job.
            await self.check()
        return job


def _page(start: int) -> str:
    return f"allBuilds[{BUILD}]{{{start},{start + _PAGE}}}"
