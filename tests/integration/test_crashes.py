"""Processes that die, freeze or get no answer in the middle of TENANT_PROVISIONING.

    claim ──► tier ──► StartBuild ──► settle ──► answer
          1        2              3          4         each arrow is a place to die at

The world is stopped at a request, never by a pause; `tests/integration/processes.py` says how.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest

from tests.integration.processes import (
    TIER_TABLE,
    Answer,
    Gate,
    Matches,
    Process,
    Stop,
    World,
    action,
    claim_of,
    settle_of,
    start_of,
    tier_query,
    until,
)

#: Long enough for all that a test does meanwhile.
LEASE_S = 120.0
#: By a clock so far ahead a dead process's lease has expired, but its start may not be listed yet.
SOON_S = LEASE_S + 10
#: By a clock so far ahead it would be listed.
LATER_S = SOON_S + 90
UNCERTAIN = "A start may be out that the builder doesn't list yet."


async def reach(*stops: Stop) -> None:
    """Wait until all of the requests have arrived."""

    async def all_reached() -> bool:
        return all(stop.reached.is_set() for stop in stops)

    await until(all_reached)


async def serve_each(world: World, *ahead_s: float) -> list[Process]:
    """A process for each clock, which is so many seconds ahead; 0 is the real time."""
    settings = {"ledger_lease_s": LEASE_S}
    return await asyncio.gather(
        *(world.serve_later(one, **settings) if one else world.serve(**settings) for one in ahead_s)
    )


async def provision_all(world: World, process: Process, tenants: Sequence[str]) -> list[Answer]:
    return await asyncio.gather(*(world.provision(process, tenant) for tenant in tenants))


async def the_run(world: World, process: Process, tenant: str) -> dict[str, Any]:
    """The tenant's only run."""
    (run,) = await world.runs(process, tenant)
    return run


async def assert_one_build(world: World, process: Process, tenant: str) -> None:
    """There is one build, and run and tenant have a record of it."""
    (build,) = world.builds(tenant)
    run = await the_run(world, process, tenant)
    assert (run["status"], run["job"]["id"]) == ("succeeded", build.id), tenant
    assert (await world.get(process, f"/tenants/{tenant}"))["state"] == "provisioning"
    assert build.status == "IN_PROGRESS"


async def redeliver(world: World, process: Process, tenant: str) -> Answer:
    """Send the event again until no dead process holds its run."""

    async def ask() -> Answer | None:
        answer = await world.provision(process, tenant)
        return None if "being handled right now" in answer.detail else answer

    found = await until(ask)
    assert found is not None
    return found


@attrs.frozen
class Place:
    """A request at which a process dies, and what is true afterwards."""

    name: str
    gate: Callable[[World], Gate]
    matches: Callable[[str], Matches]
    is_done: bool
    """The request takes effect."""
    is_late: bool = False
    """It arrives after others have taken over."""
    is_kept: bool = True
    is_started: bool = True

    def stop(self, world: World) -> Stop:
        gate, matches = self.gate(world), self.matches(self.name)
        return gate.hold_answer(matches) if self.is_done else gate.hold_before(matches)


def _dynamodb(world: World) -> Gate:
    return world.dynamodb


def _codebuild(world: World) -> Gate:
    return world.codebuild


PLACES = (
    Place("claim-unsent", _dynamodb, claim_of, False, is_kept=False, is_started=False),
    Place("claim-late", _dynamodb, claim_of, False, True, is_kept=False, is_started=False),
    Place("claim-unanswered", _dynamodb, claim_of, True, is_started=False),
    Place("start-unsent", _codebuild, start_of, False, is_started=False),
    Place("start-late", _codebuild, start_of, False, True, is_started=False),
    Place("start-unanswered", _codebuild, start_of, True),
    Place("settle-unsent", _dynamodb, settle_of, False),
    Place("settle-late", _dynamodb, settle_of, False, True),
    Place("settle-unanswered", _dynamodb, settle_of, True),
)
KEPT = [place.name for place in PLACES if place.is_kept]
UNSTARTED = [place.name for place in PLACES if place.is_kept and not place.is_started]


async def die_everywhere(world: World, process: Process) -> dict[str, Stop]:
    """The process handles an event for each place, and is killed at all of them at once."""
    stops = {place.name: place.stop(world) for place in PLACES}
    senders = [asyncio.create_task(world.provision(process, name)) for name in stops]
    await reach(*stops.values())
    await process.kill()
    answers = await asyncio.gather(*senders)
    assert {answer.status for answer in answers} == {None}
    for place in PLACES:
        if not place.is_late:
            stops[place.name].drop()
    return stops


async def assert_late_ones_do_nothing(stops: dict[str, Stop]) -> None:
    """The writes of the dead process arrive now, and are refused."""
    for name in ("claim-late", "settle-late"):
        assert await stops[name].release() == 400, name


async def test_kill_and_redelivery(world: World) -> None:
    """Wherever a process died, its event, delivered again, makes one build in the end; while a
    start may be out that isn't listed yet, the answer is 503 and nothing is started."""
    first, second, third = await serve_each(world, 0, SOON_S, LATER_S)
    stops = await die_everywhere(world, first)
    answers = dict(zip(stops, await provision_all(world, second, list(stops)), strict=True))
    for name, answer in answers.items():
        if name in UNSTARTED:
            assert (answer.status, answer.detail, world.builds(name)) == (503, UNCERTAIN, []), name
        else:
            assert answer.status == 200, (name, answer)
    assert answers["settle-unanswered"].replayed

    await assert_late_ones_do_nothing(stops)
    assert await stops["start-late"].release() == 200
    assert (await world.provision(second, "start-late")).status == 200

    assert {answer.status for answer in await provision_all(world, third, list(stops))} == {200}
    for name in stops:
        await assert_one_build(world, third, name)


Sweep = Callable[[World, Process], Awaitable[None]]


async def reconcile(world: World, process: Process) -> None:
    assert (await world.send(process, "RECONCILE", {})).status == 200


async def wait_for_the_timer(world: World, process: Process) -> None:
    """The timer sweeps without a request."""


@pytest.mark.parametrize(
    ("every_s", "sweep"),
    [(0, reconcile), (0.5, wait_for_the_timer)],
    ids=["RECONCILE", "timer"],
)
async def test_kill_and_nothing_but_the_sweep(world: World, every_s: float, sweep: Sweep) -> None:
    """What reached the ledger makes one build even if the event is never sent again."""
    (first,) = await serve_each(world, 0)
    stops = await die_everywhere(world, first)

    async def have(process: Process, name: str, *statuses: str) -> bool:
        return (await the_run(world, process, name))["status"] in statuses

    second = await world.serve_later(SOON_S, operations_reconcile_every_s=every_s)

    async def resumed() -> bool:
        await sweep(world, second)
        return all([await have(second, name, "succeeded", "retry") for name in KEPT])

    await until(resumed)
    for name in UNSTARTED:
        run = await the_run(world, second, name)
        assert (run["status"], run["error"]["message"]) == ("retry", UNCERTAIN), name
        assert world.builds(name) == []

    assert await stops["settle-late"].release() == 400
    assert await stops["start-late"].release() == 200
    third = await world.serve_later(LATER_S, operations_reconcile_every_s=every_s)

    async def done() -> bool:
        await sweep(world, third)
        return all([await have(third, name, "succeeded") for name in KEPT])

    await until(done)
    for name in KEPT:
        await assert_one_build(world, third, name)
    assert world.builds("claim-unsent") == []
    assert {answer.status for answer in await provision_all(world, third, KEPT)} == {200}
    assert all(len(world.builds(name)) == 1 for name in KEPT)


@attrs.frozen
class Lost:
    """A call whose answers are lost, and the statuses that the sender receives each time it sends
    the event."""

    gate: Callable[[World], Gate]
    matches: Callable[[str], Matches]
    times: int
    statuses: tuple[int, ...]


async def lose(world: World, process: Process, tenant: str, lost: Lost) -> None:
    stops = lost.gate(world).lose_answers(lost.matches(tenant), times=lost.times)
    answered = [(await world.provision(process, tenant)).status for _ in lost.statuses]
    assert all(stop.reached.is_set() for stop in stops), tenant
    assert tuple(answered) == lost.statuses, tenant


def any_of(name: str, *texts: str) -> Callable[[str], Matches]:
    return lambda _tenant: action(name, *texts)


# The SDK tries twice.
LOST = {
    "claim": Lost(_dynamodb, claim_of, 1, (200,)),
    "claim-twice": Lost(_dynamodb, claim_of, 2, (503, 503)),
    "settle": Lost(_dynamodb, settle_of, 1, (200,)),
    "settle-twice": Lost(_dynamodb, settle_of, 2, (503, 200)),
    "StartBuild": Lost(_codebuild, start_of, 1, (200,)),
    "StartBuild-twice": Lost(_codebuild, start_of, 2, (503, 200)),
}
# A second attempt makes these, and they name no tenant.
LOST_LATER = {
    f"{name}{suffix}": Lost(gate, matches, times, statuses)
    for name, gate, matches in (
        ("tier", _dynamodb, any_of("Query", TIER_TABLE)),
        ("BatchGetItem", _dynamodb, any_of("BatchGetItem")),
        ("ListBuildsForProject", _codebuild, any_of("ListBuildsForProject")),
        ("BatchGetBuilds", _codebuild, any_of("BatchGetBuilds")),
    )
    for suffix, times, statuses in (("", 1, (200,)), ("-twice", 2, (503, 200)))
}


async def test_done_but_the_answer_is_lost(world: World) -> None:
    """A call whose answer is lost takes effect once, whichever it is: after one lost answer the SDK
    retries, after two the sender receives 503."""
    process, later = await serve_each(world, 0, LATER_S)
    await asyncio.gather(*(lose(world, process, tenant, lost) for tenant, lost in LOST.items()))
    for tenant, lost in LOST_LATER.items():
        # Just before, since the look-up of another build finds this one on its way.
        world.codebuild.lose_answers(start_of(tenant), times=2)
        assert (await world.provision(process, tenant)).status == 503
        await lose(world, process, tenant, lost)
    tenants = [*LOST, *LOST_LATER]
    assert {answer.status for answer in await provision_all(world, later, tenants)} == {200}
    for tenant in tenants:
        await assert_one_build(world, process, tenant)


async def test_a_listing_that_lags(world: World) -> None:
    """After a lost answer or a crash nothing is started while the listing may not show a build yet;
    later the build is found."""
    first, second = await asyncio.gather(world.serve(), world.serve_later(10))
    world.codebuild.lose_answers(start_of("lost"), times=2)
    crash = world.codebuild.hold_answer(start_of("crashed"))
    assert (await world.provision(first, "lost")).status == 503
    sender = asyncio.create_task(world.provision(first, "crashed"))
    await reach(crash)
    await first.kill()
    await sender

    world.aws.codebuild.listing_lag = 2
    sent = world.codebuild.count(action("StartBuild"))
    for _ in range(2):
        for answer in await provision_all(world, second, ["lost", "crashed"]):
            assert (answer.status, answer.detail) == (503, UNCERTAIN)
    assert world.codebuild.count(action("StartBuild")) == sent

    world.aws.codebuild.listing_lag = 0
    answers = await provision_all(world, second, ["lost", "crashed"])
    assert {answer.status for answer in answers} == {200}
    assert world.codebuild.count(action("StartBuild")) == sent
    for tenant in ("lost", "crashed"):
        await assert_one_build(world, second, tenant)


async def test_a_zombie_does_nothing(world: World) -> None:
    """A process that was frozen until its lease expired starts and writes nothing once it wakes,
    whether a start of its is about to be sent, is on its way, or waits for its answer."""
    first, second = await asyncio.gather(world.serve(ledger_lease_s=8), world.serve())
    assert (await world.provision(first, "warmed-up")).status == 200
    senders = []
    stops = {}
    for tenant, gate, matches in (
        ("sent", world.codebuild.hold_before, start_of("sent")),
        ("started", world.codebuild.hold_answer, start_of("started")),
        ("unsent", world.dynamodb.hold_answer, tier_query()),
    ):
        stops[tenant] = gate(matches)
        senders.append(asyncio.create_task(world.provision(first, tenant)))
        await reach(stops[tenant])
    first.pause()

    answers = await asyncio.gather(*(redeliver(world, second, tenant) for tenant in stops))
    assert [answer.status for answer in answers] == [503, 200, 503]
    assert await stops["sent"].release() == 200
    assert (await world.provision(second, "sent")).status == 200
    before = await world.ledger()

    first.go_on()
    for tenant in ("unsent", "started"):
        await stops[tenant].release()
    assert [answer.status for answer in await asyncio.gather(*senders)] == [503, 503, 503]
    assert await world.ledger() == before
    assert world.codebuild.count(action("StopBuild")) == 0
    assert world.codebuild.count(start_of("unsent")) == 0

    later = await world.serve_later(LATER_S)
    assert (await world.provision(later, "unsent")).status == 200
    for tenant in stops:
        await assert_one_build(world, later, tenant)


async def test_the_job_of_a_process_that_lost_its_lease_is_adopted(world: World) -> None:
    """A start that returns after its run was lost, to a process that was suspended with its machine
    and is in time by its own clock, is the operation's job and isn't stopped, whether the job was
    found meanwhile or not yet."""
    first, second = await serve_each(world, 0, SOON_S)
    stops = {
        "found": world.codebuild.hold_answer(start_of("found")),
        "unseen": world.codebuild.hold_before(start_of("unseen")),
    }
    senders = [asyncio.create_task(world.provision(first, tenant)) for tenant in stops]
    await reach(*stops.values())
    first.pause()
    answers = await provision_all(world, second, list(stops))
    assert [answer.status for answer in answers] == [200, 503]
    for stop in stops.values():
        assert await stop.release() == 200
    first.go_on()
    assert [answer.status for answer in await asyncio.gather(*senders)] == [503, 503]

    world.aws.codebuild.listing_lag = 2  # so that the zombie's record is the only one
    assert (await world.provision(second, "unseen")).status == 200
    assert world.codebuild.count(action("StopBuild")) == 0
    for tenant in stops:
        await assert_one_build(world, second, tenant)


@pytest.mark.parametrize("lease_s", [LEASE_S, 5], ids=["clock-stood-still", "lease-over"])
async def test_a_zombie_that_outlived_its_token(world: World, lease_s: float) -> None:
    """A second build that CodeBuild makes of a start whose token has expired, because the process
    was frozen with the start on its way, is stopped, whether the lease has expired by its clock or,
    if the whole machine was suspended, not."""
    first, second, third = await asyncio.gather(
        world.serve(ledger_lease_s=lease_s),
        world.serve(),
        world.serve_later(LATER_S),
    )
    on_its_way = world.codebuild.hold_before(start_of("t-1"))
    sender = asyncio.create_task(world.provision(first, "t-1"))
    await reach(on_its_way)
    first.pause()
    if lease_s == 5:
        assert (await redeliver(world, second, "t-1")).status == 503
    assert (await world.provision(third, "t-1")).status == 200
    (build,) = world.builds("t-1")
    before = await world.ledger()

    world.clock.ahead_s = 301
    assert await on_its_way.release() == 200
    first.go_on()
    assert (await sender).status == 503
    kept, orphan = world.builds("t-1")
    assert kept is build

    async def is_stopped() -> bool:
        return orphan.status == "STOPPED"

    await until(is_stopped)
    assert build.status == "IN_PROGRESS"
    assert await world.ledger() == before
    assert (await the_run(world, third, "t-1"))["job"]["id"] == build.id


async def test_a_build_that_ends_before_its_start_was_settled(world: World) -> None:
    """The self-report of a build that is over before its start is settled has it adopted and ends
    the operation; the settle of the start, by its process or by another one after a crash, leaves
    that as it is."""
    first, later = await serve_each(world, 0, SOON_S)

    async def report(process: Process, tenant: str) -> Answer:
        (build,) = world.builds(tenant)
        overrides = {one["name"]: one["value"] for one in build.overrides}
        body = {
            "tenantId": tenant,
            "CODEBUILD_BUILD_ID": build.id,
            "ORCHESTRATOR_RUN_ID": overrides["ORCHESTRATOR_RUN_ID"],
        }
        return await world.send(process, "TENANT_PROVISIONING_SUCCESS", body, build.id)

    tenants = ("redelivered", "swept", "crashed")
    stops = [world.codebuild.hold_answer(start_of(tenant)) for tenant in tenants]
    senders = [asyncio.create_task(world.provision(first, tenant)) for tenant in tenants]
    await reach(*stops)
    for tenant in tenants:
        world.aws.codebuild.finish(world.builds(tenant)[0].id)
        assert (await report(first, tenant)).status == 200
        assert (await world.get(first, f"/tenants/{tenant}"))["state"] == "provisioned"

    for stop in stops[:2]:
        await stop.release()
    assert [(await sender).status for sender in senders[:2]] == [200, 200]
    assert (await report(first, "redelivered")).status == 200
    await first.kill()
    await senders[2]
    assert (await world.provision(later, "crashed")).status == 200
    await reconcile(world, later)
    for tenant in tenants:
        assert (await world.get(later, f"/tenants/{tenant}"))["state"] == "provisioned"
        assert len(world.builds(tenant)) == 1
        runs = await world.runs(later, tenant)
        # The request, the build's self-report, and the end: each of them once.
        assert [run["status"] for run in runs] == ["succeeded"] * 3


async def test_sigterm_lets_work_finish(world: World) -> None:
    """On SIGTERM work in progress is finished and answered, new work is refused, and the process
    exits 0."""
    (process,) = await serve_each(world, 0)
    stop = world.codebuild.hold_answer(start_of("t-1"))
    sender = asyncio.create_task(world.provision(process, "t-1"))
    await reach(stop)
    process.terminate()

    async def is_draining() -> bool:
        return not await world.is_ready(process)

    await until(is_draining)
    assert (await world.provision(process, "t-2")).status == 503
    await stop.release()
    assert (await sender).status == 200
    assert await process.child.wait() == 0
    other = await world.serve()
    await assert_one_build(world, other, "t-1")
    assert await world.runs(other, "t-2") == []


async def test_sigterm_hands_unfinished_runs_back(world: World) -> None:
    """On SIGTERM the process hands its unfinished runs back in time, so that another one resumes
    them at once."""
    process, other = await asyncio.gather(world.serve(), world.serve())
    starting = world.codebuild.hold_answer(start_of("starting"))
    senders = [asyncio.create_task(world.provision(process, "starting"))]
    await reach(starting)
    asking = world.dynamodb.hold_answer(tier_query())
    senders.append(asyncio.create_task(world.provision(process, "asking")))
    await reach(asking)
    process.terminate()
    assert [(await sender).status for sender in senders] == [503, 503]
    assert await process.child.wait() == 0
    for tenant in ("asking", "starting"):
        assert (await the_run(world, other, tenant))["status"] == "retry"
        assert (await world.provision(other, tenant)).status == 200
        await assert_one_build(world, other, tenant)
