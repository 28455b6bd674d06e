"""An earlier start may have made the job: it is looked up before anything is sent."""

from datetime import datetime, timedelta

import attrs
import pytest

from orchestrator.core.errors import NotPermitted, TemporaryError
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Job
from orchestrator.testing import ManualClock
from tests.desk import PROVISIONING, Desk, possible_until
from tests.unit.core.jobs.starting import (
    BareBuilder,
    LooksEverywhere,
    Scene,
    ScriptedBuilder,
    fresh,
    place,
    possible,
    sent_to_first,
)


async def test_a_job_that_an_earlier_start_made_is_found(desk: Desk) -> None:
    """The job is found, however long ago it was started, and nothing is sent."""
    builder = ScriptedBuilder()
    builder.finds = [builder.job()]
    scene = await possible(desk, builder, ago_s=3)
    assert await scene.start() == builder.job()
    assert builder.sent == []
    operation = await desk.operation(of=scene.attempt)
    began = operation.opened_at - timedelta(minutes=5)
    assert builder.looks == [(scene.attempt.start_key, "standard", began)]


async def test_every_builder_is_queried_the_chosen_one_first(desk: Desk) -> None:
    """By now the tier may name another one than it did; one without a lookup is skipped."""
    order: list[str] = []
    builders = [ScriptedBuilder(name, order=order) for name in ("FIRST", "SECOND", "THIRD")]
    elsewhere = builders[2].job()
    builders[2].finds = [elsewhere]
    scene = await possible(desk, BareBuilder("BARE"), *builders, ago_s=3)
    assert await scene.start("SECOND") == elsewhere
    assert order == ["SECOND", "FIRST", "THIRD"]
    assert [builder.sent for builder in builders] == [[], [], []]
    order.clear()
    assert await scene.starter.look_up() == elsewhere
    assert order == ["FIRST", "SECOND", "THIRD"]


async def test_only_the_builder_that_a_start_was_sent_to_is_queried(desk: Desk) -> None:
    """If the builder is stored, another builder's outage doesn't hold the tenant."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    first.error = TemporaryError("the answer was lost")
    scene = await fresh(desk, first, second)
    with pytest.raises(TemporaryError):
        await scene.start("FIRST")
    assert place(scene.attempt) == ("FIRST", "standard")
    await desk.hand_back(
        scene.attempt, possible_until=possible_until(scene.attempt), sent_to="FIRST"
    )
    desk.turn(90)
    second.finds = [TemporaryError("down for good")]
    first.error = None
    again = Scene(desk, await desk.claimed(PROVISIONING, "a"), scene.builders)
    assert await again.start("SECOND") == second.job()
    assert (len(first.looks), len(second.looks)) == (1, 0)


async def test_a_start_is_looked_for_where_it_was_sent(desk: Desk) -> None:
    """The stored job is searched, and no other one, whatever job the tier names by then."""
    builder = LooksEverywhere(error=TemporaryError("the answer was lost"))
    scene = await fresh(desk, builder)
    with pytest.raises(TemporaryError):
        await scene.start()
    lost = scene.attempt
    assert place(lost) == ("FIRST", "standard")
    await desk.hand_back(lost, possible_start=lost.possible_start)
    desk.turn(90)
    attempt = await desk.claimed(PROVISIONING, "a")
    for look_up in (
        Scene(desk, attempt, scene.builders).starter.look_up("FIRST", "premium"),
        Scene(desk, attempt, scene.builders).starter.look_up(),
    ):
        attempt.possible_start = lost.possible_start
        assert await look_up is None
    assert [job_identifier for _, job_identifier, _ in builder.looks] == ["standard"] * 2
    assert builder.looks_everywhere == []


async def test_a_start_of_an_unknown_builder_is_looked_up_on_all(desk: Desk) -> None:
    """The builder that it would be started on now comes first; an item of an older release names
    none."""
    builder = LooksEverywhere()
    builder.finds_somewhere = builder.job("elsewhere")
    scene = await possible(desk, builder, ago_s=3)
    scene.attempt.possible_start = sent_to_first(scene.attempt)
    assert await scene.start() == builder.job("elsewhere")
    (place,), key = builder.looks, scene.attempt.start_key
    assert place[1] == "standard"
    assert builder.looks_everywhere == [(key, place[2])]
    builder.finds = [builder.job()]
    assert await scene.starter.look_up("FIRST", "standard") == builder.job()
    assert len(builder.looks_everywhere) == 1


async def test_a_crashed_attempt_may_have_sent_its_start_to_any_builder(desk: Desk) -> None:
    """After a crash every builder is queried, whatever the attempt before it had stored."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(
        first, possible_until=desk.clock.now(), sent_to="FIRST", sent_job="standard"
    )
    second = await desk.claimed(PROVISIONING, "a")
    assert place(second) == ("FIRST", "standard")
    third = await desk.taken_over(PROVISIONING, "a")
    assert place(third) == (None, None)


async def test_a_builder_that_denies_the_lookup_is_skipped(desk: Desk) -> None:
    """It has most likely never let us start a job either; but the answer of the chosen builder is
    needed."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    second.finds = [NotPermitted("not you")]
    scene = await possible(desk, first, second, ago_s=90)
    assert await scene.start("FIRST") == first.job()
    scene.attempt.possible_start = PossibleStart(desk.clock.now())
    for look_up in (scene.starter.look_up("SECOND", "standard"), scene.starter.look_up()):
        with pytest.raises(NotPermitted):
            await look_up


async def test_a_builder_that_denies_the_lookup_of_its_own_start_is_not_skipped(
    desk: Desk,
) -> None:
    """It got the start: another one that would be chosen now proves nothing."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    first.finds = [NotPermitted("not you")]
    scene = await possible(desk, first, second, ago_s=90)
    scene.attempt.possible_start = sent_to_first(scene.attempt)
    with pytest.raises(NotPermitted):
        await scene.start("SECOND")
    assert second.sent == []


async def test_a_start_of_a_builder_that_is_no_longer_configured_is_looked_up_on_all(
    desk: Desk,
) -> None:
    """The job identifier that was sent to that one means nothing to the others."""
    builder = LooksEverywhere()
    scene = await possible(desk, builder, ago_s=90)
    sent = possible_until(scene.attempt)
    assert sent is not None
    scene.attempt.possible_start = PossibleStart(sent, "GONE", "premium")
    assert await scene.starter.look_up("FIRST", "standard") is None
    assert [job_identifier for _, job_identifier, _ in builder.looks] == ["standard"]
    assert len(builder.looks_everywhere) == 1


@pytest.mark.parametrize(("ago_s", "pause_s"), [(0, 62), (45, 17), (61.9, 1)])
async def test_none_is_no_proof_for_a_while(desk: Desk, ago_s: float, pause_s: float) -> None:
    """The attempt gets the pause after which it will be; what was possible stays possible."""
    builder = ScriptedBuilder()
    scene = await possible(desk, builder, ago_s=ago_s)
    before = possible_until(scene.attempt)
    with pytest.raises(TemporaryError, match="doesn't list yet") as refused:
        await scene.start()
    assert refused.value.retry_after_s == pytest.approx(pause_s)
    assert builder.sent == []
    assert possible_until(scene.attempt) == before


@pytest.mark.parametrize("builder", [ScriptedBuilder(), BareBuilder()])
async def test_a_certain_none_has_it_sent_again(desk: Desk, builder: BareBuilder) -> None:
    """The start key is the same; a builder that can't find a job is waited for just as long."""
    scene = await possible(desk, builder, ago_s=62)
    assert await scene.start() == builder.job()
    assert builder.sent == [scene.attempt.start_key]
    assert scene.attempt.start_key.endswith("-1")
    assert possible_until(scene.attempt) is None


async def test_a_builder_that_cannot_find_proves_nothing_either(desk: Desk) -> None:
    """Until the time is over, no start is sent again."""
    builder = BareBuilder()
    scene = await possible(desk, builder, ago_s=59)
    with pytest.raises(TemporaryError):
        await scene.start()
    assert builder.sent == []


async def test_a_look_that_fails_is_no_proof(desk: Desk) -> None:
    """If one of the look-ups fails, nothing is sent, however many builders have answered."""
    first, second = ScriptedBuilder("FIRST"), ScriptedBuilder("SECOND")
    second.finds = [TemporaryError("listing down")]
    scene = await possible(desk, first, second, ago_s=1000)
    before = possible_until(scene.attempt)
    with pytest.raises(TemporaryError, match="listing down"):
        await scene.start()
    assert (first.sent, possible_until(scene.attempt)) == ([], before)


async def test_a_taken_over_attempt_counts_from_its_leases_end(desk: Desk) -> None:
    """A possible start counts from the lease's end, since it may have been sent until then."""
    builder = ScriptedBuilder()
    await desk.claimed(PROVISIONING, "a")
    scene = Scene(desk, await desk.taken_over(PROVISIONING, "a"), {"FIRST": builder})
    with pytest.raises(TemporaryError) as refused:
        await scene.start()
    assert refused.value.retry_after_s == pytest.approx(62 - 2)
    assert builder.sent == []


@attrs.define
class SlowToAnswer(ScriptedBuilder):
    """Its listing is of the moment at which it was queried, and arrives late."""

    clock: ManualClock = attrs.field(factory=ManualClock)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        self.clock.turn(3)
        return None


async def test_none_is_as_old_as_the_question(desk: Desk) -> None:
    """A listing of the 59th second proves nothing, however late it arrives."""
    builder = SlowToAnswer(clock=desk.clock)
    scene = await possible(desk, builder, ago_s=60)
    with pytest.raises(TemporaryError, match="doesn't list yet"):
        await scene.start()
    assert builder.sent == []
