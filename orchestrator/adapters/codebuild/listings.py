"""Looks up builds by start key: concurrent lookups share walks through the pages of a listing.

lookup a ─ begins ─ walk 1 begins ···· ends: the answer of a
lookup b ────────────────── begins ··· walk 2 begins ···· ends: the answer of b and c
lookup c ───────────────────── begins ·

Only a walk that began after a lookup can answer it with "none". A build that any walk has seen
answers lookups for a minute, since a build's start key never changes.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs

from orchestrator.adapters.aws import aws_errors
from orchestrator.adapters.codebuild.builds import describe_build
from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.record_parts import Job

if TYPE_CHECKING:
    from types_aiobotocore_codebuild import CodeBuildClient

_KEEP = timedelta(seconds=60)


class NoSuchProject(Exception):
    """CodeBuild has no project of that name."""


@attrs.frozen(eq=False)
class _LookUp:
    start_key: str
    started_after: datetime


@attrs.frozen
class _Found:
    """A build with a start key: its job, its start time, and when a walk saw it."""

    job: Job
    started: datetime
    seen_at: datetime


@attrs.frozen
class _Walk:
    """A walk that has ended: its number, and its error if it failed."""

    number: int
    trouble: OrchestratorError | NoSuchProject | None


@attrs.define
class _Listing:
    """The builds of a project or of the account, with one walk at a time."""

    turn: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    waiting: list[_LookUp] = attrs.field(factory=list)
    begun: int = 0
    last: _Walk | None = None
    found: dict[str, _Found] = attrs.field(factory=dict)

    def forget(self, now: datetime) -> None:
        self.found = {key: one for key, one in self.found.items() if now < one.seen_at + _KEEP}

    def note(self, start_key: str, found: _Found) -> None:
        """Record a build; of several with the same key the latest one counts."""
        known = self.found.get(start_key)
        if known is None or known.started <= found.started:
            self.found[start_key] = found


class BuildListings:
    def __init__(
        self, client: Callable[[], Awaitable["CodeBuildClient"]], clock: Clock, *, name: str
    ) -> None:
        """`client` returns the app's open client; `name` is the builder's."""
        self._client = client
        self._clock = clock
        self._name = name
        self._listings: dict[str | None, _Listing] = {}

    async def find(
        self, project: str | None, *, start_key: str, started_after: datetime
    ) -> Job | None:
        """The job with the start key among a project's builds, or among the account's (None).

        Raises:
            NoSuchProject: the project doesn't exist.
            OrchestratorError: CodeBuild can't be queried.
        """
        listing = self._listing(project)
        if known := listing.found.get(start_key):
            return known.job
        look_up, begun_before = _LookUp(start_key, started_after), listing.begun
        listing.waiting.append(look_up)
        try:
            async with listing.turn:
                walk = listing.last
                is_answered = start_key in listing.found
                if not is_answered and (walk is None or walk.number <= begun_before):
                    walk = await self._walk(project, listing)
        finally:
            listing.waiting.remove(look_up)
        if known := listing.found.get(start_key):
            return known.job
        if walk is not None and walk.trouble is not None:
            # Each lookup raises its own copy, since its handler may modify the error.
            raise copy.copy(walk.trouble) from walk.trouble
        return None

    def _listing(self, project: str | None) -> _Listing:
        """The project's listing; listings that were not used for a while are dropped."""
        now = self._clock.now()
        for listing in self._listings.values():
            listing.forget(now)
        self._listings = {
            name: listing
            for name, listing in self._listings.items()
            if listing.waiting or listing.found or name == project
        }
        return self._listings.setdefault(project, _Listing())

    async def _walk(self, project: str | None, listing: _Listing) -> _Walk:
        """Walk through the listing for all waiting lookups, until all their builds are found or
        the builds are older than their starts. A walk that raises an unexpected exception is not
        recorded."""
        listing.begun += 1
        number, seen_at = listing.begun, self._clock.now()
        wanted = {one.start_key for one in listing.waiting}
        oldest = min(one.started_after for one in listing.waiting)
        trouble: OrchestratorError | NoSuchProject | None = None
        try:
            async for builds in self._pages(project):
                for report, started in builds:
                    if report.start_key is not None:
                        listing.note(report.start_key, _Found(report.job, started, seen_at))
                if wanted <= listing.found.keys():
                    break
                # A project's builds are listed the newest first, an account's by their ids (API
                # reference, ListBuildsForProject and ListBuilds, sortOrder).
                if project is not None and any(started < oldest for _, started in builds):
                    break
        except (OrchestratorError, NoSuchProject) as error:
            trouble = error
        listing.last = _Walk(number, trouble)
        return listing.last

    async def _pages(
        self, project: str | None
    ) -> AsyncIterator[list[tuple[JobDescription, datetime]]]:
        """The builds of a project (None: of all), 100 to a page, with their start times. Raises
        NoSuchProject."""
        client = await self._client()
        call, ask = "ListBuilds", cast("Any", client.list_builds)
        if project is not None:
            call = "ListBuildsForProject"
            ask = partial(client.list_builds_for_project, projectName=project)
        token: str | None = None
        while True:
            with aws_errors(f"CodeBuild {call}"):
                try:
                    page = await ask(**({"nextToken": token} if token else {}))
                except client.exceptions.ResourceNotFoundException as error:
                    raise NoSuchProject from error
                ids = list(page["ids"])
            if ids:
                with aws_errors("CodeBuild BatchGetBuilds"):
                    answer = await client.batch_get_builds(ids=ids)
                    builds = [
                        (describe_build(build, builder=self._name), build["startTime"])
                        for build in answer["builds"]
                    ]
                yield builds
            token = page.get("nextToken")
            if not token:
                return
