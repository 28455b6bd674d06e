"""How the builds of `dev` end."""

import asyncio

import attrs
import pytest

from orchestrator.embedded import Build, BuildTimer, CodeBuildStandIn
from orchestrator.testing import ManualClock


@attrs.define
class Dice:
    """A die that shows the part of its sides that the test says."""

    part: float

    def pick(self, count: int) -> int:
        return min(count - 1, int(self.part * count))


def started() -> tuple[CodeBuildStandIn, Build, list[str]]:
    codebuild, changes = CodeBuildStandIn("http://127.0.0.1:9"), list[str]()
    codebuild.on_change = lambda build: changes.append(build.status)
    codebuild.add_project("basic-tenant")
    build = Build("basic-tenant:1", "basic-tenant", 1, 1, {}, started=0.0)
    codebuild.builds[build.id] = build
    return codebuild, build, changes


async def run(timer: BuildTimer, clock: ManualClock, build: Build) -> None:
    ending = asyncio.ensure_future(timer.end(build))
    await asyncio.sleep(0)
    clock.turn(4.9)
    await asyncio.sleep(0)
    assert not ending.done()
    clock.turn(0.2)
    await ending


@pytest.mark.parametrize(
    ("failing", "part", "status"),
    [
        (0.0, 0.0, "SUCCEEDED"),
        (0.2, 0.19, "FAILED"),
        (0.2, 0.21, "SUCCEEDED"),
        (1.0, 1.0, "FAILED"),
    ],
)
async def test_a_build_ends_after_its_time_and_a_share_fails(
    failing: float, part: float, status: str
) -> None:
    """The listener is notified once."""
    codebuild, build, changes = started()
    clock = ManualClock()
    timer = BuildTimer(
        codebuild=codebuild, clock=clock, dice=Dice(part), after_s=5, failing=failing
    )
    await run(timer, clock, build)
    assert (build.status, changes) == (status, [status])
    assert ("--failing" in str(build.reason)) is (status == "FAILED")


async def test_a_build_that_was_ended_by_hand_is_left_alone() -> None:
    """It keeps the end that it has."""
    codebuild, build, changes = started()
    clock = ManualClock()
    timer = BuildTimer(codebuild=codebuild, clock=clock, dice=Dice(0), after_s=5, failing=0)
    codebuild.finish(build.id, "STOPPED")
    await run(timer, clock, build)
    assert (build.status, changes) == ("STOPPED", ["STOPPED"])
