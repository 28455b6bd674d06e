"""The world of the ledger's model test: a manual clock, workers at gates, a builder that lags.

Every effect of a worker (a commit, a start, a look-up, a stop, a report, a secret) waits at a gate
until the test opens it with a fate. A worker whose gates stay closed is paused; the gates of a
crashed one are never opened again. Nothing else about the orchestrator is changed.
"""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from orchestrator import JobDescription, JobStatus, PermanentError
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.record_parts import Job
from orchestrator.testing import ManualClock
from tests.integration.ledger_watch import Watch

if TYPE_CHECKING:
    from tests.integration.ledger_worker import AttemptRunner

Result = TypeVar("Result")

COMMIT = "commit"
REPORT = "report"
TIERS = ("JOBS", "BARE")
TIMINGS = Timings(deadline_s=900, max_takeovers=3, max_attempts=2)
#: CodeBuild holds a start's token for 5 minutes (API reference, StartBuild).
TOKEN_S = 300.0
_JOBS: Tier = {
    "jobIdentifier": "up",
    "deprovisioningJobIdentifier": "down",
    "deploymentJobIdentifier": "deploy",
    "cleanupJobIdentifier": "clean",
}
_MOVED: Tier = {name: f"new-{job}" for name, job in _JOBS.items()}
_BARE: Tier = {"jobIdentifier": "up", "deprovisioningJobIdentifier": "down"}
#: States of the tier catalog; a tier that is missing makes the handler refuse.
CATALOGS: Mapping[str, Mapping[str, Tier]] = {
    "sound": {"JOBS": _JOBS, "BARE": _BARE},
    "gone": {},
    "moved": {"JOBS": _MOVED, "BARE": _BARE},
    "bare": {"JOBS": _BARE, "BARE": _BARE},
}


class Fate(StrEnum):
    """How an effect that waits at a gate turns out."""

    DONE = auto()
    HELD = auto()  # done; the answer waits at a gate of its own
    LOST_DONE = auto()  # done, and the answer is lost
    LOST = auto()  # never done, and there is no answer
    REFUSED = auto()  # not done, and the answer says so
    FORBIDDEN = auto()  # refused permanently, where the other side can refuse
    BUG = auto()  # done, and the call raises an error that isn't the orchestrator's


class Part(StrEnum):
    """The parts around a handler that may break down."""

    MODEL = auto()  # the attempt, before its handler
    PAYLOADS = auto()  # the claim, for the sweep and for replays: no kept event can be unpacked


class Unprintable(Exception):
    """A handler's error that breaks the settle, since it has no text."""

    def __str__(self) -> str:
        raise RuntimeError("What is it?")


class TurnedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers go by a time of its own, which can be turned on."""

    turned_s = 0.0

    def time(self) -> float:
        return super().time() + self.turned_s

    @property
    def is_idle(self) -> bool:
        """Nothing is left to do but to wait for timers, gates and sockets."""
        return not self._ready  # type: ignore[attr-defined]


#: The number of the delivery, sweep or replay that sends an effect.
sender: ContextVar[int] = ContextVar("sender")


@attrs.define(eq=False)
class Gate:
    """An effect that waits for its fate."""

    worker: "AttemptRunner"
    what: str
    opened: asyncio.Future[Fate]


@attrs.define
class Build:
    """The build that the builder made for a start."""

    job: Job
    start_key: str
    asked: tuple[str, Mapping[str, Any]]
    made_at: datetime
    listed_at: datetime
    status: JobStatus = JobStatus.IN_PROGRESS
    #: Its builder has discarded it.
    is_forgotten: bool = False
    #: It was made from an older build, whose start key it carries.
    is_rebuild: bool = False
    #: It runs again after its end was claimed, which is unknown until its state change is handled.
    is_stray: bool = False
    #: It ran again after its end was claimed: its second end is not its operation's end.
    was_stray: bool = False
    runs: int = 1

    @property
    def is_running(self) -> bool:
        return self.status is JobStatus.IN_PROGRESS


class World:
    """The state that the workers share, and the gates that they wait at."""

    def __init__(self, loop: TurnedLoop, ledger: Ledger, clock: ManualClock) -> None:
        self.loop, self.ledger, self.clock = loop, ledger, clock
        self.builds: list[Build] = []
        self.gates: list[Gate] = []
        self.story: list[str] = []
        self._under_way = 0
        #: No call to the real ledger is under way.
        self.all_back = asyncio.Event()
        self.all_back.set()
        self.is_closed = False
        self.catalog = CATALOGS["sound"]
        self.lag_s = TIMINGS.listing_lag_s
        self.after_start: type[Exception] | None = None
        self.breaks: Part | None = None
        #: The values in the store, and the names that can't be used again for days.
        self.secrets: dict[str, str] = {}
        self.removed: set[str] = set()
        self.watch = Watch(self.builds, clock, sender, deadline_s=TIMINGS.deadline_s)

    def tell(self, line: str) -> None:
        self.story.append(f"{self.clock.now():%H:%M:%S.%f}"[:10] + f"  {line}")

    async def find_tier(self, tier: str) -> Tier | None:
        found = self.catalog.get(tier)
        return None if found is None else {"tier": tier, **found}

    async def pass_gate(self, worker: "AttemptRunner", what: str) -> Fate:
        if self.is_closed:
            raise asyncio.CancelledError
        gate = Gate(worker, what, self.loop.create_future())
        self.gates.append(gate)
        try:
            return await gate.opened
        finally:
            self.gates.remove(gate)

    async def call(self, call: Awaitable[Result]) -> Result:
        """A call to the real ledger; until it returns the world doesn't count as idle."""
        self._under_way += 1
        self.all_back.clear()
        try:
            return await call
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.all_back.set()

    async def settle_down(self) -> None:
        """Return when each task waits at a gate or for the time."""
        while True:
            await self.all_back.wait()
            await asyncio.sleep(0)
            if self.loop.is_idle and self.all_back.is_set():
                return

    def turn(self, seconds: float) -> None:
        self.loop.turned_s += seconds
        self.clock.turn(seconds)
        # A build that no operation has recorded by the deadline is assumed to have ended.
        begun = self.clock.now() - timedelta(seconds=TIMINGS.deadline_s)
        for build in self.builds:
            if build.made_at <= begun and not self.watch.is_recorded(build.job.id):
                self.end(build, JobStatus.TIMED_OUT)

    def make_build(
        self, worker: "AttemptRunner", identifier: str, params: Mapping[str, Any], start_key: str
    ) -> Job:
        now, asked = self.clock.now(), (identifier, dict(params))
        self.watch.starts(start_key)
        if any(name not in self.secrets for name in _references(params)):
            self.watch.broken.append(f"{start_key} is started without its secrets")
        for build in reversed([one for one in self.builds if not one.is_rebuild]):
            is_held = build.made_at + timedelta(seconds=TOKEN_S) > now
            if build.start_key == start_key and is_held:
                if build.asked != asked:
                    raise PermanentError("The token was used with other parameters.")
                return build.job
        job = Job(id=f"b{len(self.builds) + 1}", builder="CODE_BUILD", job_identifier=identifier)
        listed_at = now + timedelta(seconds=self.lag_s)
        self.builds.append(Build(job, start_key, asked, now, listed_at))
        self.tell(f"{worker.name}: {job.id} is made for {start_key[:4]}{start_key[40:]}")
        return job

    def keep(self, worker: "AttemptRunner", name: str, value: str) -> None:
        if name in self.removed:
            self.watch.broken.append(f"{name} is stored again before the store has removed it")
        self.tell(f"{worker.name}: stores {name}")
        self.secrets[name] = value

    def remove(self, worker: "AttemptRunner", name: str) -> None:
        self.tell(f"{worker.name}: removes {name}")
        long_ago = self.clock.now() - timedelta(seconds=TIMINGS.deadline_s)
        running = [one for one in self.builds if one.is_running and not one.is_stray]
        running = [one for one in running if one.made_at > long_ago]
        if any(name in _references(build.asked[1]) for build in running):
            self.watch.broken.append(f"{name} is removed while a build that needs it runs")
        self.secrets.pop(name, None)
        self.removed.add(name)

    def listed(self, start_key: str) -> Job | None:
        now = self.clock.now()
        shown = (
            one
            for one in reversed(self.builds)
            if one.start_key == start_key and one.listed_at <= now and not one.is_forgotten
        )
        return next((build.job for build in shown), None)

    def stop(self, worker: "AttemptRunner", job_id: str) -> None:
        self.tell(f"{worker.name}: stops {job_id}")
        for build in self.builds:
            if build.job.id == job_id:
                self.end(build, JobStatus.STOPPED)

    def end(self, build: Build, status: JobStatus) -> None:
        """A build ends, and stays ended unless it runs again."""
        if build.is_running:
            self.tell(f"{build.job.id} ends: {status}")
            build.status, build.is_stray = status, False

    def forget(self, build: Build) -> None:
        """The builder discards a build that is over."""
        self.tell(f"{build.job.id} is discarded")
        build.is_forgotten = True

    def run_again(self, build: Build) -> None:
        """A redrive of a job that is over."""
        build.status, build.runs = JobStatus.IN_PROGRESS, build.runs + 1
        build.is_stray = build.was_stray = not self.watch.is_unclaimed(build.start_key)
        self.tell(f"{build.job.id} runs again; its end was claimed: {build.is_stray}")

    def build_again(self, build: Build) -> None:
        """A newer build under the same start key, made when the older one is over."""
        job = attrs.evolve(build.job, id=f"b{len(self.builds) + 1}")
        now = self.clock.now()
        self.builds.append(Build(job, build.start_key, build.asked, now, now, is_rebuild=True))
        self.tell(f"{job.id} is made of {build.job.id} again")

    def describe(self, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """Of a job that is over or gone, the newest build under its start key. Its exported URL
        shows which start a report is about."""
        reports = dict[str, JobDescription]()
        for asked in (one for one in self.builds if one.job.id in job_ids):
            same = [
                one
                for one in self.builds
                if one.start_key == asked.start_key and not one.is_forgotten
            ]
            newest = next((one for one in reversed(same) if one.is_rebuild), None)
            is_newer = newest is not None and newest.made_at >= asked.made_at
            is_replaced = not asked.is_running and newest is not None and newest is not asked
            build = newest if newest is not None and is_newer and is_replaced else asked
            if build.is_forgotten:
                continue
            reports[asked.job.id] = JobDescription(
                job=build.job,
                status=build.status,
                start_key=build.start_key,
                exported={"APP_PLANE_URL": build.start_key},
                replaces=asked.job.id if build is not asked else None,
            )
        return reports

    def receive_report(self, worker: "AttemptRunner", text: str) -> int:
        """The control plane accepts one report of each start, and one refusal of each request."""
        data = json.loads(text)["data"]
        start_key = data.get("appPlaneUrl")
        answer = self.watch.receive_report(start_key, succeeded=data["status"] == 1)
        self.tell(f"{worker.name}: reports {start_key}: {answer}")
        return answer


def _references(params: Mapping[str, Any]) -> list[str]:
    return [value["value"] for value in params.values() if isinstance(value, Mapping)]
