"""However a build ends, and in whichever order and however often messages about it arrive, the end
is the same.

One provisioning and its build; state changes, the build's self-reports, sweeps, replays and
redeliveries arrive in any order, before and after the end. Then sweeps detect the rest.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.aws import AWS, open_aws
from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.builds import describe_build
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.callback.report import CallbackPolicy
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.dispatch.orchestrator import Limits, Orchestrator
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events.event_types import Kind
from orchestrator.core.handlers.builtin import built_in_handlers
from orchestrator.core.handlers.services import Services
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import RunRecord
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.embedded import CodeBuildStandIn, EmbeddedAWS, open_codebuild
from orchestrator.testing import (
    InMemoryBuilder,
    LoadedDice,
    ManualClock,
    SequentialIds,
    StartedJob,
    envelope,
    provisioning_event,
)
from orchestrator.wire.converter import JsonConverter
from tests.ledgers import find_tenant

DEADLINE_S = 1800.0
TIER = {"jobIdentifier": "up", "cleanupJobIdentifier": "clean"}
SECRET = "00112233445566778899aabbccddeeff"
LOG = "https://log.example/"

#: What may arrive, with its event's id where that matters.
_MOVES = st.one_of(
    st.sampled_from(["state change", "sweep", "redelivery", "a minute", "replay"]),
    st.tuples(st.sampled_from(["success", "failure"]), st.sampled_from(["1", "2", "3"])),
)
_COMINGS = st.lists(_MOVES, max_size=6)
#: By how the build ends: the tenant's state, and words of the reason.
ENDS: Mapping[str, tuple[str, str]] = {
    "SUCCEEDED": ("provisioned", "succeeded"),
    "FAILED": ("provision_failed", r"failed.*: the cause\."),
    "FAULT": ("provision_failed", r"broke down.*: the cause\."),
    "TIMED_OUT": ("provision_failed", r"timed out.*: the cause\."),
    "STOPPED": ("provision_failed", r"was stopped.*: the cause\."),
    "deleted": ("provision_failed", "doesn't know the job"),
    "never reported": ("provision_failed", "took longer than 1800 s"),
}


@attrs.define
class Bus:
    why_silent: str | None = None
    published: list[str] = attrs.field(factory=list)
    details: list[Mapping[str, Any]] = attrs.field(factory=list)

    async def publish(
        self, *, event_type: str, detail: Mapping[str, Any], source: str | None = None
    ) -> str:
        assert SECRET not in json.dumps(detail)
        self.published.append(event_type)
        self.details.append(detail)
        return "id"


@attrs.define
class ControlPlane:
    """A control plane that accepts one report, and refuses each later one."""

    accepted: list[int] = attrs.field(factory=list)
    refused: int = 0

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        if self.accepted:
            self.refused += 1
            return WebhookAnswer(status=401)
        self.accepted.append(json.loads(text)["data"]["status"])
        return WebhookAnswer(status=204)


class LoggingBuilder(InMemoryBuilder):
    """A builder whose jobs have a log from their start on, as CodeBuild's have."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job = await super().start_job(job_identifier, params, start_key=start_key)
        logged = attrs.evolve(job, log_url=f"{LOG}{job.id}")
        self.started = [
            attrs.evolve(one, job=logged) if one.job.id == job.id else one for one in self.started
        ]
        return logged


class StandInBuilder(CodeBuildBuilder):
    """CodeBuild over its stand-in, with the methods of the builder in memory."""

    def __init__(self, aws: AWS, stand_in: CodeBuildStandIn) -> None:
        listings = BuildListings(aws.codebuild, ManualClock(), name="CODE_BUILD")
        super().__init__(aws.codebuild, listings, name="CODE_BUILD")
        self.stand_in = stand_in

    @property
    def started(self) -> list[StartedJob]:
        reports = [describe_build(one.as_document()) for one in self.stand_in.builds.values()]
        return [StartedJob(one.job, {}, one.start_key or "") for one in reports]

    def finish(
        self, job_id: str, status: JobStatus = JobStatus.SUCCEEDED, *, message: str | None = None
    ) -> None:
        how: Any = status.value
        self.stand_in.finish(job_id, how, reason=message)

    def forget(self, job_id: str) -> None:
        self.stand_in.remove_build(job_id)


class Story:
    """One service, the tenant's build, and all messages about it."""

    def __init__(self, builder: LoggingBuilder | StandInBuilder) -> None:
        self.clock, self.ledger = ManualClock(), InMemoryLedger()
        self.builder = builder
        #: The link to the log of its first build.
        self.link: str | None = None
        #: How the build's self-reports say that it ended.
        self.reported: list[str] = []
        self.bus, self.control_plane = Bus(), ControlPlane()
        timings = Timings(deadline_s=DEADLINE_S, max_attempts=3)
        self.orchestrator = Orchestrator(
            registry=built_in_handlers(),
            services=Services(
                transactions=Transactions(ledger=self.ledger, clock=self.clock, timings=timings),
                tiers=self,
                builders={"CODE_BUILD": self.builder},
                default_builder="CODE_BUILD",
                publisher=self.bus,
                structure=JsonConverter(Redactor()),
                webhook=self.control_plane,
                notifications=BUILT_IN_NOTIFICATIONS,
                clock=self.clock,
                callback=CallbackPolicy(url="https://control.example", after=Kind.PROVISIONING),
            ),
            ids=SequentialIds(),
            dice=LoadedDice(),
            aliases={},
            limits=Limits(sweep_s=1e6),
        )
        self.request = provisioning_event(override={"secret": SECRET, "context": "c"})

    async def find_tier(self, tier: str) -> Mapping[str, Any]:
        return {"tier": tier, **TIER}

    @property
    def job(self) -> Job:
        return self.jobs["up"]

    @property
    def jobs(self) -> dict[str, Job]:
        return {one.job.job_identifier: one.job for one in self.builder.started}

    async def come(self, move: Any, job: Job) -> None:
        """A message arrives; an answer that asks for a retry or refuses it is ignored."""
        with contextlib.suppress(OrchestratorError):
            match move:
                case "state change":
                    await self.change_state(job)
                case "sweep":
                    await self.orchestrator.reconcile()
                case "redelivery":
                    await self.send(self.request)
                case "a minute":
                    self.clock.turn(61)
                case "replay":
                    for run in self.runs():
                        with contextlib.suppress(OrchestratorError):
                            await self.orchestrator.replay(run.run_id)
                case (word, event_id):
                    await self.send_self_report(word, event_id, job)

    async def send(self, event: Mapping[str, Any]) -> None:
        await self.orchestrator.handle_event(event["detail-type"], event)

    async def change_state(self, job: Job) -> None:
        """CodeBuild's state change of the build as it is; none if the build was deleted."""
        reports = await self.builder.describe_jobs(job_ids=[job.id])
        if job.id not in reports:
            return
        report = reports[job.id]
        build = {"phase-type": "BUILD", "phase-status": report.status.value}
        context = {"phase-context": [f"CODE: {report.message}"]} if report.message else {}
        detail = {
            "build-id": f"arn:aws:codebuild:eu-west-1:1:build/{job.id}",
            "build-status": report.status.value,
            "project-name": job.job_identifier,
            "additional-information": {
                "logs": {"deep-link": job.log_url},
                "environment": {
                    "environment-variables": [
                        {"name": "ORCHESTRATOR_PROJECT", "value": job.job_identifier},
                        {"name": "ORCHESTRATOR_RUN_ID", "value": report.start_key},
                        {"name": "secret", "value": SECRET},
                    ]
                },
                "phases": [{**build, **context}] if report.message else [],
            },
        }
        await self.send(envelope("BUILD_STATE_CHANGE", detail, event_id=report.status.value))

    async def send_self_report(self, word: str, event_id: str, job: Job) -> None:
        """The build reports on itself, with its environment; in an early phase without its
        tenant."""
        self.reported.append(word)
        self_report = {"CODEBUILD_BUILD_ID": job.id, "secret": SECRET, "CLIENT_SECRET": "cs-1"}
        early = {} if event_id == "2" else {"TENANT_ID": "tenant-1"}
        event_type = f"TENANT_PROVISIONING_{word.upper()}"
        await self.send(
            envelope(event_type, {**self_report, **early}, event_id=f"{word}-{event_id}")
        )

    def end(self, how: str, job: Job) -> None:
        if how == "deleted":
            self.builder.forget(job.id)
        elif how != "never reported":
            status = JobStatus(how)
            message = None if status is JobStatus.SUCCEEDED else "the cause"
            self.builder.finish(job.id, status, message=message)

    async def come_to_rest(self) -> None:
        """Sweeps detect the rest, minute by minute."""
        for _ in range(45):
            self.clock.turn(61)
            await self.orchestrator.reconcile()

    def runs(self) -> list[RunRecord]:
        return [one for one in self.ledger._items.values() if isinstance(one, RunRecord)]

    def outcomes(self) -> list[RunRecord]:
        """The runs of outcomes, without those of self-reports."""
        provisioning = ("TENANT_PROVISIONING_SUCCESS", "TENANT_PROVISIONING_FAILURE")
        ours = [run for run in self.runs() if run.source == "orchestrator"]
        return [run for run in ours if run.event_type in provisioning]


async def live_through(
    how: str,
    before: Sequence[Any],
    after: Sequence[Any],
    builder: LoggingBuilder | StandInBuilder | None = None,
) -> Story:
    story = Story(builder or LoggingBuilder("CODE_BUILD"))
    await story.send(story.request)
    job = story.job
    (run,) = story.runs()
    assert run.job is not None
    # Of a deleted build there is only the link that was recorded at its start.
    story.link = (run.job if how == "deleted" else job).log_url
    for move in before:
        await story.come(move, job)
    story.end(how, job)
    for move in after:
        await story.come(move, job)
    await story.come_to_rest()
    for name, clean_up in story.jobs.items():
        if name == "clean":
            story.builder.finish(clean_up.id)
    await story.come_to_rest()
    return story


@pytest.mark.parametrize("how", list(ENDS))
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(before=_COMINGS, after=_COMINGS)
def test_the_end_is_the_same(how: str, before: list[Any], after: list[Any]) -> None:
    """There is one outcome with its reason and link, one report, and the right follow-up, once."""
    check_the_end(asyncio.run(live_through(how, before, after)), how)


@pytest.mark.parametrize("how", list(ENDS))
@settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # the test in memory shrinks what fails, in a fraction of the time
)
@given(before=_COMINGS, after=_COMINGS)
def test_the_end_is_the_same_over_codebuild(how: str, before: list[Any], after: list[Any]) -> None:
    """The same holds with CodeBuild's log, phases and way to stop a build, by AWS's SDK over the
    stand-in."""
    check_the_end(asyncio.run(live_through_codebuild(how, before, after)), how)


async def live_through_codebuild(how: str, before: Sequence[Any], after: Sequence[Any]) -> Story:
    async with open_codebuild() as stand_in:
        for project in ("up", "clean"):
            stand_in.add_project(project)
        with pytest.MonkeyPatch.context() as environment:
            embedded = EmbeddedAWS(endpoint_url=stand_in.url, codebuild=stand_in)
            for name, value in embedded.environment().items():
                environment.setenv(name, value)
            async with open_aws(
                dynamodb_region=None, events_region=None, connect_timeout_s=5, read_timeout_s=20
            ) as aws:
                return await live_through(how, before, after, StandInBuilder(aws, stand_in))


def check_the_end(story: Story, how: str) -> None:
    state, reason = ENDS[how]
    (outcome,) = story.outcomes()
    if how == "deleted" and story.reported:
        # How a deleted build ended is known from its self-report alone.
        word = "success" if outcome.event_type.endswith("SUCCESS") else "failure"
        assert word in story.reported
        state = "provisioned" if word == "success" else "provision_failed"
        reason = f"reported (a )?{word}"
    succeeded = state == "provisioned"
    assert outcome.status == "succeeded"
    assert outcome.event_type.endswith("SUCCESS") is succeeded
    assert re.search(reason, outcome.note or "")
    assert story.link is not None
    assert outcome.link == story.link
    assert (story.control_plane.accepted, story.control_plane.refused) == ([int(succeeded)], 0)
    tenant = asyncio.run(find_tenant_of(story))
    assert tenant == (state, None)
    assert story.bus.published == ["TENANT_DEPLOYMENT"] * succeeded
    started = [one.job.job_identifier for one in story.builder.started]
    is_cleaned_up = not succeeded and (how != "deleted" or story.reported)
    expected = ["up", "clean"] if is_cleaned_up else ["up"]
    assert started == (expected[1:] if how == "deleted" else expected)
    assert all(run.status.is_finished for run in story.runs())
    assert SECRET not in str([one for one in story.ledger._items.values() if _is_shown(one)])


async def find_tenant_of(story: Story) -> tuple[str | None, str | None]:
    tenant = await find_tenant(story.ledger, "tenant-1")
    assert tenant is not None
    return tenant.state, tenant.operation_id


def _is_shown(item: object) -> bool:
    """Not the request's payload, which keeps its secret, since its build may have to be started
    again."""
    return isinstance(item, RunRecord)


@pytest.mark.parametrize("word", ["success", "failure"])
@pytest.mark.parametrize("how", ["SUCCEEDED", "FAILED"])
async def test_the_builders_word_outranks_the_jobs(how: str, word: str) -> None:
    """The builder's status counts, not the self-report: a success that was reported before the last
    command failed is a failure, and the reverse."""
    story = await live_through(how, [(word, "1")], [(word, "3")])
    tenant = await find_tenant(story.ledger, "tenant-1")
    assert tenant is not None
    assert tenant.state == ENDS[how][0]


async def test_each_provisioning_is_deployed() -> None:
    """A provisioning is deployed after a forced replay too, and if the report of its end names no
    start key."""
    story = Story(LoggingBuilder("CODE_BUILD"))
    await story.send(story.request)
    for number in (1, 2):
        story.end("SUCCEEDED", story.builder.started[-1].job)
        await story.come_to_rest()
        detail = story.bus.details[-1]
        await story.send(envelope("TENANT_DEPLOYMENT", detail, event_id=f"d-{number}"))
        tenant = await find_tenant(story.ledger, "tenant-1")
        assert tenant is not None
        assert tenant.state == "active"
        (request,) = (one for one in story.runs() if one.event_type == "TENANT_PROVISIONING")
        if number == 1:
            await story.orchestrator.replay(request.run_id, force=True)
    deployments = [one for one in story.runs() if one.event_type == "TENANT_DEPLOYMENT"]
    assert [one.status for one in deployments] == ["succeeded", "succeeded"]
