"""What is CodeBuild's own about the builder for it: look-ups that share a listing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import attrs
import pytest

from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.core.errors import NotPermitted
from orchestrator.core.jobs.job_description import SomeNotDescribed
from orchestrator.embedded import CodeBuildStandIn, Fault, open_codebuild
from orchestrator.testing import ManualClock
from tests.aws import open_service_aws

PROJECT = "standard-tenant"
LIST, DESCRIBE = "ListBuildsForProject", "BatchGetBuilds"


@attrs.frozen
class Bench:
    aws: CodeBuildStandIn
    builder: CodeBuildBuilder
    clock: ManualClock

    async def start(self, start_key: str, project: str = PROJECT) -> str:
        """The id of the build."""
        params = {"ORCHESTRATOR_RUN_ID": start_key}
        return (await self.builder.start_job(project, params, start_key=start_key)).id

    async def find(
        self, start_key: str, *, project: str = PROJECT, since_s: float = 300
    ) -> str | None:
        """The id of the build."""
        found = await self.builder.find_job(
            start_key=start_key,
            job_identifier=project,
            started_after=self.clock.now() - timedelta(seconds=since_s),
        )
        return found.id if found else None

    def asked(self) -> list[str]:
        """The actions that CodeBuild was sent since the last time, besides starts."""
        actions = [action for action, _ in self.aws.calls if action != "StartBuild"]
        self.aws.calls.clear()
        return actions


@pytest.fixture(params=["sdk", "lean"])
async def bench(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Bench]:
    async with (
        open_codebuild(clock=lambda: clock.now().timestamp(), page_size=2) as stand_in,
        open_service_aws(stand_in.url, request.param) as aws,
    ):
        stand_in.add_project(PROJECT)
        listings = BuildListings(aws.codebuild, clock, name="MINE")
        yield Bench(stand_in, CodeBuildBuilder(aws.codebuild, listings, name="MINE"), clock)


async def hold(bench: Bench, action: str = LIST) -> Fault:
    """Hold the next listing, which shows what is there now, until it is released."""
    held = Fault.slow()
    bench.aws.inject(action, held)
    return held


async def all_have_asked() -> None:
    """Each task that was made has got as far as it gets without the held answer."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_none_is_the_word_of_a_listing_that_began_after_the_question(bench: Bench) -> None:
    """A build that was made while an earlier look-up was under way is found by the later one."""
    held = await hold(bench)
    early = asyncio.ensure_future(bench.find("op-1"))
    await held.reached.wait()
    job = await bench.start("op-1")
    late = asyncio.ensure_future(bench.find("op-1"))
    await all_have_asked()
    held.release.set()
    assert await early is None
    assert await late == job
    assert bench.asked() == [LIST, LIST, DESCRIBE]


async def test_look_ups_that_wait_share_the_next_listing(bench: Bench) -> None:
    """All look-ups that wait share one listing, and each gets its own answer."""
    held = await hold(bench)
    first = asyncio.ensure_future(bench.find("op-0"))
    await held.reached.wait()
    jobs = {key: await bench.start(key) for key in ("op-1", "op-3")}
    later = [asyncio.ensure_future(bench.find(f"op-{number}")) for number in range(1, 5)]
    await all_have_asked()
    held.release.set()
    assert await first is None
    assert await asyncio.gather(*later) == [jobs["op-1"], None, jobs["op-3"], None]
    assert bench.asked() == [LIST, LIST, DESCRIBE]


async def test_a_walk_goes_as_far_back_as_any_look_up_needs(bench: Bench) -> None:
    """A project's builds come the newest first: those before the oldest start aren't requested."""
    held = await hold(bench)
    first = asyncio.ensure_future(bench.find("op-0"))
    await held.reached.wait()
    older = [await bench.start(f"older-{number}") for number in range(4)]
    bench.clock.turn(1000)
    await bench.start("op-1")
    both = [bench.find("none"), bench.find("older-1", since_s=1000)]
    later = [asyncio.ensure_future(one) for one in both]
    await all_have_asked()
    held.release.set()
    assert await first is None
    assert await asyncio.gather(*later) == [None, older[1]]
    assert bench.asked() == [LIST, *[LIST, DESCRIBE] * 3]
    assert await bench.find("none") is None
    assert bench.asked() == [LIST, DESCRIBE]


async def test_a_build_that_was_seen_answers_for_a_minute(bench: Bench) -> None:
    """It is found without a request; for a build that was not seen there is one."""
    jobs = [await bench.start(f"op-{number}") for number in range(2)]
    assert await bench.find("op-0") == jobs[0]
    bench.asked()
    assert await bench.find("op-1") == jobs[1]
    assert bench.asked() == []
    assert await bench.find("op-2") is None
    assert bench.asked() == [LIST, DESCRIBE]
    bench.clock.turn(60)
    assert await bench.find("op-1") == jobs[1]
    assert bench.asked() == [LIST, DESCRIBE]


async def test_of_builds_under_one_key_the_newest_is_found(bench: Bench) -> None:
    """A person may have had CodeBuild build it again."""
    first = await bench.start("op-1")
    parameters = bench.aws.builds[first].parameters
    bench.clock.turn(1)
    again = bench.aws._start_build({**parameters, "idempotencyToken": None})["build"]["id"]
    assert await bench.find("op-1") == again


@pytest.mark.parametrize("action", [LIST, DESCRIBE])
async def test_a_listing_that_fails_is_no_answer_to_any(bench: Bench, action: str) -> None:
    """Each look-up that waited for it gets an error of its own; the next one lists anew."""
    job = await bench.start("op-1")
    held = await hold(bench)
    first = asyncio.ensure_future(bench.find("op-0"))
    await held.reached.wait()
    bench.aws.faults.inject(
        action, *[None] * (action == DESCRIBE), Fault.error("AccessDeniedException")
    )
    later = [asyncio.ensure_future(bench.find(f"op-{number}")) for number in range(2, 5)]
    await all_have_asked()
    held.release.set()
    assert await first is None
    errors = await asyncio.gather(*later, return_exceptions=True)
    assert [type(error) for error in errors] == [NotPermitted] * 3
    assert len({id(error) for error in errors}) == 3
    assert await bench.find("op-1") == job


async def test_a_cancelled_lookup_does_not_cancel_the_shared_listing(bench: Bench) -> None:
    """The other look-ups get their answers, whichever of them had begun the listing."""
    job = await bench.start("op-1")
    held = await hold(bench)
    first = asyncio.ensure_future(bench.find("op-0"))
    await held.reached.wait()
    others = [asyncio.ensure_future(bench.find(key)) for key in ("op-1", "op-2")]
    await all_have_asked()
    first.cancel()
    assert await asyncio.gather(*others) == [job, None]
    assert first.cancelled()
    held.release.set()


async def test_listings_of_projects_do_not_wait_for_each_other(bench: Bench) -> None:
    """A project that is slow to be listed delays no other; without the project all are listed."""
    bench.aws.add_project("other")
    job = await bench.start("op-1", "other")
    held = await hold(bench)
    slow = asyncio.ensure_future(bench.find("op-0"))
    await held.reached.wait()
    assert await bench.find("op-1", project="other") == job
    bench.asked()
    assert await bench.find("op-1", project="gone") == job
    assert bench.asked() == [LIST, "ListBuilds", DESCRIBE]
    held.release.set()
    assert await slow is None


async def test_a_start_in_no_project_is_looked_for_nowhere(bench: Bench) -> None:
    """Nothing is requested of CodeBuild: a search of all projects is a call of its own."""
    assert await bench.find("op-1", project="") is None
    assert bench.asked() == []


async def test_an_unreadable_build_hides_no_other(bench: Bench) -> None:
    """CodeBuild may get new values; the others are described."""
    jobs = [await bench.start(f"op-{number}") for number in range(2)]
    bench.aws.builds[jobs[0]].status = "PAUSED"  # type: ignore[assignment]
    with pytest.raises(SomeNotDescribed, match="PAUSED") as raised:
        await bench.builder.describe_jobs(job_ids=jobs)
    assert (list(raised.value.reports), list(raised.value.failed)) == ([jobs[1]], [jobs[0]])
