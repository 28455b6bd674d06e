"""The world of the ledger's model test: a manual clock, workers at gates, a builder that lags.

Every effect of a worker (a commit, a start, a look-up, a stop, a report, a secret) waits at a gate
until the test opens it with a fate. A worker whose gates stay closed is paused; the gates of a
crashed one are never opened again. Nothing else about the orchestrator is changed.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import StrEnum, auto
from typing import Any, TypeVar

import attrs

from orchestrator import Event, JobDescription, JobStatus, PermanentError, Run, TemporaryError
from orchestrator.adapters.eventbridge.publisher import NoPublisher
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.callback.report import CallbackPolicy
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.clock import Clock
from orchestrator.core.dispatch.orchestrator import Limits, Orchestrator
from orchestrator.core.errors import SecretNotFound
from orchestrator.core.events.event_types import TENANT_PROVISIONING, Kind
from orchestrator.core.events.payloads import TenantProvisioning
from orchestrator.core.handlers import builtin
from orchestrator.core.handlers.builtin import built_in_handlers
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.handlers.services import Services
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Conflict, Ledger, OpenOperations, Summary
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Record,
    RunRecord,
    TenantRecord,
)
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import SecretReferences, SecretRemover
from orchestrator.testing import LoadedDice, ManualClock, SequentialIds
from orchestrator.wire.converter import JsonConverter
from tests.integration.ledger_watch import Watch

Result = TypeVar("Result")

ORDER = "ORDER"
COMMIT = "commit"
REPORT = "report"
TIERS = ("JOBS", "BARE")
TIMINGS = Timings(deadline_s=900, max_takeovers=3, max_attempts=2)
CONTROL_PLANE = "https://control.example/webhook"
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


@attrs.define(eq=False)
class AttemptRunner:
    """One process: a clock that is `offset_s` off, and an orchestrator over gated ports."""

    name: str
    world: World
    offset_s: float
    is_alive: bool = True

    def now(self) -> datetime:
        return self.world.clock.now() + timedelta(seconds=self.offset_s)

    async def sleep(self, seconds: float) -> None:
        await self.world.clock.sleep(seconds)

    async def effect(self, what: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """Let `act` take effect or not, as the test decides."""
        fate = await self.world.pass_gate(self, what)
        if fate is Fate.LOST:
            raise TemporaryError("No answer.")
        if fate is Fate.REFUSED:
            raise TemporaryError("Not now.", nothing_done=True)
        if fate is Fate.FORBIDDEN:
            is_temporary = what in (COMMIT, REPORT)
            raise TemporaryError("Closed.") if is_temporary else PermanentError("Never.")
        refusal: Exception | None = None
        try:
            result = await act()
        except (Conflict, PermanentError) as error:
            refusal = error
        if fate is Fate.HELD:
            fate = await self.world.pass_gate(self, f"the answer to {what}")
        if fate is Fate.BUG and what.startswith("start"):
            raise RuntimeError("What was that?")
        if fate not in (Fate.DONE, Fate.HELD):
            raise TemporaryError("The answer is lost.")
        if refusal is not None:
            raise refusal
        return result

    def open(self) -> Orchestrator:
        ledger: Ledger = _GatedLedger(self)
        clock: Clock = self
        return Orchestrator(
            registry=_REGISTRY,
            services=Services(
                transactions=Transactions(ledger=ledger, clock=clock, timings=TIMINGS),
                tiers=self.world,
                builders={"CODE_BUILD": _GatedBuilder(self)},
                default_builder="CODE_BUILD",
                publisher=NoPublisher(),
                structure=_Structure(self.world),
                webhook=_GatedWebhook(self),
                secret_references=SecretReferences(
                    store=_GatedStore(self),
                    ids=SequentialIds(),
                    secrets=Redactor(),
                    prefix="/secrets",
                ),
                secret_remover=SecretRemover(stores=[_GatedStore(self)]),
                notifications=BUILT_IN_NOTIFICATIONS,
                clock=clock,
                callback=CallbackPolicy(url=CONTROL_PLANE),
                resources=self.world,
            ),
            ids=SequentialIds(),
            dice=LoadedDice(),
            aliases={},
            limits=Limits(sweep_s=1e6),
        )


async def _provision(event: Event[TenantProvisioning], run: Run) -> None:
    """The built-in handler, followed by a step and by what the test has happen then."""
    world: World = run.resources
    await builtin.tenant_provisioning(event, run)
    if world.after_start is not None:
        raise world.after_start("after the start")
    if event.body.get("welcomes"):
        await run.step("welcome", _nothing)


async def _order(event: Event[dict[str, Any]], run: Run) -> None:
    """A user's handler: its job belongs to the run and holds no tenant."""
    await run.step("reserve", _nothing)
    await run.start_job("order", {"password": "s"})


async def _nothing() -> None:
    return None


def _registry() -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.register(TENANT_PROVISIONING, _provision)
    registry.register(ORDER, _order)
    return registry.over(built_in_handlers())


_REGISTRY = _registry()
_WIRE = JsonConverter(Redactor(()))


@attrs.frozen
class _Structure:
    """The converter of models, which breaks down on demand."""

    world: World

    def structure(self, value: object, model: Any) -> Any:
        if self.world.breaks is Part.MODEL:
            raise RuntimeError("What is that?")
        return _WIRE.structure(value, model)

    def unstructure(self, value: object) -> Any:
        return _WIRE.unstructure(value)


@attrs.frozen
class _GatedBuilder:
    worker: AttemptRunner

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        async def act() -> Job:
            return self.worker.world.make_build(self.worker, job_identifier, params, start_key)

        return await self.worker.effect(f"start {start_key[:4]}{start_key[40:]}", act)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        async def act() -> Job | None:
            return self.worker.world.listed(start_key)

        return await self.worker.effect(f"look-up {start_key[:4]}{start_key[40:]}", act)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        return self.worker.world.describe(job_ids)

    async def stop_job(self, *, job_id: str) -> None:
        async def act() -> None:
            self.worker.world.stop(self.worker, job_id)

        await self.worker.effect(f"stop {job_id}", act)


@attrs.frozen
class _GatedStore:
    worker: AttemptRunner
    reference_type: str = "SECRETS_MANAGER"

    async def put(self, *, name: str, value: str) -> None:
        async def act() -> None:
            self.worker.world.keep(self.worker, name, value)

        await self.worker.effect("store", act)

    async def read(self, *, name: str) -> str:
        async def act() -> str:
            if name not in self.worker.world.secrets:
                raise SecretNotFound(name, "store")
            return self.worker.world.secrets[name]

        return await self.worker.effect("read", act)

    async def remove(self, *, name: str) -> None:
        async def act() -> None:
            self.worker.world.remove(self.worker, name)

        await self.worker.effect("remove", act)


def _references(params: Mapping[str, Any]) -> list[str]:
    return [value["value"] for value in params.values() if isinstance(value, Mapping)]


@attrs.frozen
class _GatedWebhook:
    worker: AttemptRunner

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        async def act() -> WebhookAnswer:
            return WebhookAnswer(status=self.worker.world.receive_report(self.worker, text))

        return await self.worker.effect(REPORT, act)


class _GatedLedger:
    """The shared ledger, as one worker reaches it. Reads pass no gate."""

    max_payload_bytes: int | None = None

    def __init__(self, worker: AttemptRunner) -> None:
        self._worker, self._world = worker, worker.world

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        async def act() -> None:
            await self._world.call(self._world.ledger.commit(records, unchanged=unchanged))
            for line in self._world.watch.written(records, self._worker):
                self._world.tell(f"{self._worker.name}: {line}")

        await self._worker.effect(COMMIT, act)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        found = await self._world.call(self._world.ledger.load(keys))
        if self._world.breaks is not Part.PAYLOADS:
            return found
        return {
            key: attrs.evolve(item, data=b"") if isinstance(item, PayloadRecord) else item
            for key, item in found.items()
        }

    async def find_due(self, **asked: Any) -> Page[str]:
        return await self._world.call(self._world.ledger.find_due(**asked))

    async def list_runs(self, **asked: Any) -> Page[RunRecord]:
        raise AssertionError(asked)

    async def list_tenants(self, **asked: Any) -> Page[TenantRecord]:
        raise AssertionError(asked)

    async def list_by_attention(self, **asked: Any) -> Page[TenantRecord]:
        raise AssertionError(asked)

    async def list_operations(self, **asked: Any) -> Page[OperationRecord]:
        raise AssertionError(asked)

    async def summarize(self, *, most: int) -> Summary:
        raise AssertionError(most)

    async def count_open(self, kind: Kind, *, most: int) -> OpenOperations:
        raise AssertionError

    async def check(self) -> None:
        return None
