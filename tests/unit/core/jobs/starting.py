"""An attempt at a provisioning that starts its job, and builders that do what the test says."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import attrs

from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.start import JobStarter
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.secrets.references import SecretReferences
from tests.desk import PROVISIONING, Desk, possible_until

#: CodeBuild's token and an allowance.
MEMORY_S = 360.0


@attrs.define
class BareBuilder:
    """Starts the job that is requested, or raises; it can't find a job again."""

    name: str = "FIRST"
    error: BaseException | None = None
    answer: Callable[[Job], Job | None] = attrs.field(default=lambda job: job)
    sent: list[str] = attrs.field(factory=list)
    variables: list[Mapping[str, Any]] = attrs.field(factory=list)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        self.sent.append(start_key)
        self.variables.append(params)
        if self.error is not None:
            raise self.error
        return self.answer(self.job(job_identifier))

    def job(self, job_identifier: str = "standard") -> Job:
        return Job(id=f"{self.name}-job", builder=self.name, job_identifier=job_identifier)


@attrs.define
class ScriptedBuilder(BareBuilder):
    """Finds what the test says, one answer for each look-up; the last one stays."""

    finds: list[Job | Exception | None] = attrs.field(factory=lambda: [None])
    looks: list[tuple[str, str, datetime]] = attrs.field(factory=list)
    stopped: list[str] = attrs.field(factory=list)
    order: list[str] = attrs.field(factory=list)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        self.looks.append((start_key, job_identifier, started_after))
        self.order.append(self.name)
        found = self.finds.pop(0) if len(self.finds) > 1 else self.finds[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def stop_job(self, *, job_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.stopped.append(job_id)


@attrs.define
class LooksEverywhere(ScriptedBuilder):
    """Finds `finds_somewhere` in a look-up that names no job identifier."""

    finds_somewhere: Job | None = None
    looks_everywhere: list[tuple[str, datetime]] = attrs.field(factory=list)

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        self.looks_everywhere.append((start_key, started_after))
        return self.finds_somewhere


@attrs.define
class Scene:
    """An attempt at a provisioning, and builders in the order of their names."""

    desk: Desk
    attempt: RunLease
    builders: dict[str, Builder]
    secret_references: SecretReferences | None = None

    @property
    def starter(self) -> JobStarter:
        return JobStarter(
            self.attempt,
            self.builders,
            self.desk.clock,
            self.desk.timings,
            self.secret_references,
        )

    async def start(self, builder: str = "FIRST") -> Job:
        return await self.starter.start(builder, "standard", {"A": "1"})


def place(attempt: RunLease) -> tuple[str | None, str | None]:
    """Where a start that may be out was sent to."""
    start = attempt.possible_start
    assert start is not None
    return start.builder, start.job_identifier


def sent_to_first(attempt: RunLease) -> PossibleStart:
    until = possible_until(attempt)
    assert until is not None
    return PossibleStart(until, "FIRST")


async def fresh(desk: Desk, *builders: BareBuilder) -> Scene:
    """A first attempt: no start can be out."""
    attempt = await desk.claimed(PROVISIONING, "a")
    return Scene(desk, attempt, {one.name: one for one in builders})


async def possible(desk: Desk, *builders: BareBuilder, ago_s: float) -> Scene:
    """An earlier attempt handed back a start whose answer it did not get."""
    first = await desk.claimed(PROVISIONING, "a")
    sent = desk.clock.now()
    await desk.hand_back(first, possible_until=sent)
    desk.turn(ago_s)
    attempt = await desk.claimed(PROVISIONING, "a")
    assert possible_until(attempt) == sent
    return Scene(desk, attempt, {one.name: one for one in builders})
