"""A start: sent under the lease, or looked up where an earlier one may have made its job."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.memory.secret_store import InMemorySecretStore
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.jobs.start import CUT_OFF_S
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.secrets.references import SecretReferences
from orchestrator.testing import SequentialIds
from tests.desk import PROVISIONED, PROVISIONING, Desk, adopt_job, event, possible_until
from tests.unit.core.jobs.starting import (
    MEMORY_S,
    BareBuilder,
    Scene,
    ScriptedBuilder,
    fresh,
    place,
    possible,
    sent_to_first,
)

#: What `possible_until` becomes: None, what it was, or the moment of the send.
NOTHING, AS_BEFORE, NOW = "nothing", "as before", "now"


async def test_a_start_is_sent_without_a_lookup_if_none_is_possible(desk: Desk) -> None:
    """A first start is sent at once, and no builder is queried before."""
    builder = ScriptedBuilder()
    scene = await fresh(desk, builder)
    assert await scene.start() == builder.job()
    assert builder.sent == [scene.attempt.start_key]
    assert builder.looks == []
    assert possible_until(scene.attempt) is None


async def test_a_second_attempt_without_a_possible_start_sends_too(desk: Desk) -> None:
    """The second attempt sends its start under the same start key."""
    builder = ScriptedBuilder()
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(first)
    scene = Scene(desk, await desk.claimed(PROVISIONING, "a"), {"FIRST": builder})
    await scene.start()
    assert (builder.sent, builder.looks) == ([first.start_key], [])


# --- what a send may come to -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "raised", "is_out"),
    [
        (PermanentError("no such project"), PermanentError, False),
        (TemporaryError("throttled", nothing_done=True), TemporaryError, False),
        (TemporaryError("answer lost"), TemporaryError, True),
        (TimeoutError("its own"), TemporaryError, True),
        (ValueError("bug"), ValueError, True),
        (asyncio.CancelledError(), asyncio.CancelledError, True),
    ],
)
@pytest.mark.parametrize("ago_s", [None, 400])
async def test_only_a_definite_refusal_leaves_no_possible_start(
    desk: Desk, error: BaseException, raised: type[BaseException], is_out: bool, ago_s: float | None
) -> None:
    """Any other failure may have started a job just now."""
    builder = ScriptedBuilder(error=error)
    scene = await (fresh(desk, builder) if ago_s is None else possible(desk, builder, ago_s=ago_s))
    with pytest.raises(raised):
        await scene.start()
    assert builder.sent == [scene.attempt.start_key]
    assert possible_until(scene.attempt) == (desk.clock.now() if is_out else None)


@pytest.mark.parametrize(("left_s", "is_sent"), [(CUT_OFF_S, False), (CUT_OFF_S + 0.001, True)])
async def test_nothing_is_sent_once_the_lease_is_all_but_over(
    desk: Desk, left_s: float, is_sent: bool
) -> None:
    """It isn't even begun: there is no time left to get the answer."""
    builder = BareBuilder()
    scene = await fresh(desk, builder)
    desk.turn(60 - left_s)
    if is_sent:
        await scene.start()
    else:
        with pytest.raises(TemporaryError, match="nothing is started any more"):
            await scene.start()
    assert bool(builder.sent) is is_sent
    assert possible_until(scene.attempt) is None


async def test_without_a_store_secrets_are_passed_on(desk: Desk) -> None:
    """The operator has chosen so; nothing is reserved in the ledger."""
    builder = ScriptedBuilder()
    scene = await fresh(desk, builder)
    commits = desk.ledger.requests.count("commit")
    await scene.starter.start("FIRST", "standard", {"DB_PASSWORD": "hush-hush"})
    assert builder.variables == [{"DB_PASSWORD": "hush-hush"}]
    assert desk.ledger.requests.count("commit") == commits


async def test_no_secret_is_stored_once_the_lease_has_expired(desk: Desk) -> None:
    """It might be stored after the next attempt has removed all of them."""
    store = InMemorySecretStore()
    scene = await fresh(desk, BareBuilder())
    scene.secret_references = SecretReferences(store=store, ids=SequentialIds())
    desk.turn(60 - CUT_OFF_S)
    with pytest.raises(TemporaryError, match="nothing is started any more"):
        await scene.starter.start("FIRST", "standard", {"DB_PASSWORD": "hush-hush"})
    assert store.kept == {}
    await scene.attempt.renew()
    await scene.starter.start("FIRST", "standard", {"DB_PASSWORD": "hush-hush"})
    assert list(store.kept.values()) == ["hush-hush"]


async def test_a_renewed_lease_gives_time_again(desk: Desk) -> None:
    """The start is sent under the latest lease."""
    builder = BareBuilder()
    scene = await fresh(desk, builder)
    desk.turn(59.5)
    await scene.attempt.renew()
    await scene.start()
    assert len(builder.sent) == 1


class DeafBuilder(BareBuilder):
    """Gets the call and never answers."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        self.sent.append(start_key)
        never: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        return await never


async def test_a_send_is_cut_off_before_the_lease_ends(desk: Desk) -> None:
    """It is given up while no other attempt can have taken the run over, and may be out."""
    builder = DeafBuilder()
    scene = await fresh(desk, builder)
    desk.turn(60 - CUT_OFF_S - 1e-6)
    with pytest.raises(TemporaryError, match="FIRST did not answer before the lease was over"):
        await scene.start()
    assert len(builder.sent) == 1
    assert possible_until(scene.attempt) == desk.clock.now()


# --- what is checked before it is sent -------------------------------------------------------


@attrs.define
class BuildsFirst(ScriptedBuilder):
    """It builds a start's request without sending it; `refusal` is why there can be none."""

    refusal: Exception | None = None
    built: list[tuple[str, Mapping[str, Any], str]] = attrs.field(factory=list)

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        self.built.append((job_identifier, params, start_key))
        if self.refusal is not None:
            raise self.refusal
        return params


async def test_a_request_is_built_before_it_is_sent(desk: Desk) -> None:
    """A start's request is built with everything that is sent later."""
    builder = BuildsFirst()
    scene = await fresh(desk, builder)
    await scene.start()
    key = scene.attempt.start_key
    assert builder.built == [("standard", {"A": "1"}, key)]
    assert builder.sent == [key]


@pytest.mark.parametrize("error", [PermanentError("no such machine"), KeyError("a bug")])
@pytest.mark.parametrize("ago_s", [None, 63])
async def test_a_start_that_cannot_be_built_leaves_no_possible_start(
    desk: Desk, error: Exception, ago_s: float | None
) -> None:
    """It was never sent; nor does it prove an earlier start, as a refusal would."""
    builder = BuildsFirst(refusal=error)
    scene = await (fresh(desk, builder) if ago_s is None else possible(desk, builder, ago_s=ago_s))
    with pytest.raises(type(error)):
        await scene.start()
    assert (builder.sent, possible_until(scene.attempt)) == ([], None)
    assert len(builder.looks) == (0 if ago_s is None else 1)


async def test_a_started_job_is_found_although_its_tier_is_broken_now(desk: Desk) -> None:
    """The job is found although its tier, which was changed since, can't be started now."""
    builder = BuildsFirst(refusal=PermanentError("no such machine"))
    builder.finds = [builder.job()]
    scene = await possible(desk, builder, ago_s=3)
    assert await scene.start() == builder.job()


async def test_a_variable_that_cannot_be_printed_is_not_sent(desk: Desk) -> None:
    """No handler can pass one to any builder; dates are text by then."""
    builder = BareBuilder()
    scene = await fresh(desk, builder)
    with pytest.raises(PermanentError, match="The variable KEY can't be passed to a job") as error:
        await scene.starter.start("FIRST", "standard", {"KEY": {"pem": b"x"}})
    assert [one.path for one in error.value.errors] == ["$"]
    assert (builder.sent, possible_until(scene.attempt)) == ([], None)


# --- refused under our own key ---------------------------------------------------------------


@pytest.mark.parametrize(("ago_s", "is_final"), [(MEMORY_S - 1, False), (MEMORY_S, True)])
async def test_a_refusal_after_a_possible_start_may_be_its_echo(
    desk: Desk, ago_s: float, is_final: bool
) -> None:
    """It isn't final as long as the builder remembers the token, and the job is looked up."""
    builder = ScriptedBuilder(error=PermanentError("mismatch"))
    scene = await possible(desk, builder, ago_s=ago_s)
    before = possible_until(scene.attempt)
    with pytest.raises(PermanentError if is_final else TemporaryError, match="mismatch"):
        await scene.start()
    assert len(builder.looks) == (1 if is_final else 2)
    assert possible_until(scene.attempt) == (None if is_final else before)


async def test_a_refusal_leads_to_the_job_that_it_proves(desk: Desk) -> None:
    """The listing that was late at first has the job after the refusal."""
    builder = ScriptedBuilder(error=PermanentError("mismatch"))
    builder.finds = [None, builder.job()]
    scene = await possible(desk, builder, ago_s=63)
    assert await scene.start() == builder.job()


async def test_a_refusal_queries_only_the_builder_that_the_start_was_sent_to(desk: Desk) -> None:
    """Another builder that is down delays nothing, since it isn't queried."""
    first, second = ScriptedBuilder("FIRST", PermanentError("mismatch")), ScriptedBuilder("SECOND")
    second.finds = [TemporaryError("down")]
    scene = await possible(desk, first, second, ago_s=63)
    scene.attempt.possible_start = sent_to_first(scene.attempt)
    with pytest.raises(TemporaryError, match="mismatch"):
        await scene.start()
    assert (place(scene.attempt)[0], second.looks) == ("FIRST", [])


async def test_a_refusal_of_a_first_start_is_final(desk: Desk) -> None:
    """A refusal is final if no start was possible before it."""
    builder = ScriptedBuilder(error=PermanentError("no such project"))
    scene = await fresh(desk, builder)
    with pytest.raises(PermanentError, match="no such project"):
        await scene.start()
    assert builder.looks == []


async def test_nothing_is_started_for_an_ended_operation(desk: Desk) -> None:
    """It was ended by another run, while this attempt still holds its lease."""
    builder = ScriptedBuilder()
    builder.finds = [builder.job()]
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(first)
    attempt = await desk.claimed(PROVISIONING, "a")
    await adopt_job(
        desk.transactions, operation_id=attempt.run.operation_id, number=1, job=builder.job()
    )
    await desk.end(PROVISIONED, "done")
    with pytest.raises(PermanentError, match="is over: replay with force"):
        await Scene(desk, attempt, {"FIRST": builder}).start()
    assert (builder.sent, builder.looks) == ([], [])


# --- odd builders ----------------------------------------------------------------------------


async def test_a_job_without_an_id_is_known_by_its_start_key(desk: Desk) -> None:
    """A builder may return no job."""
    builder = BareBuilder(answer=lambda job: None)
    scene = await fresh(desk, builder)
    key = scene.attempt.start_key
    assert await scene.start() == Job(id=key, builder="FIRST", job_identifier="standard")


async def test_a_run_without_an_operation_looks_from_its_first_sight(desk: Desk) -> None:
    """An event that opens none has no operation before its job is recorded."""
    builder = ScriptedBuilder()
    first = await desk.claimed("ORDER", "a")
    await desk.hand_back(first, possible_until=desk.clock.now())
    desk.turn(62)
    attempt = await desk.claimed("ORDER", "a")
    await Scene(desk, attempt, {"FIRST": builder}).start()
    began = first.run.first_seen - timedelta(minutes=5)
    assert builder.looks == [(attempt.start_key, "standard", began)]
    assert attempt.run.run_id == event("ORDER", "a").key


# --- stopping --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "stopped", "said"),
    [
        (ScriptedBuilder(), ["FIRST-job"], ("warning", "stopped an orphaned job")),
        (
            ScriptedBuilder(error=TemporaryError("down")),
            [],
            ("error", "an orphaned job was not stopped"),
        ),
        (BareBuilder(), None, ("error", "an orphaned job runs, and its builder can't stop it")),
        (
            ScriptedBuilder("SECOND"),
            [],
            ("error", "an orphaned job runs, and its builder can't stop it"),
        ),
    ],
)
async def test_an_orphaned_job_is_stopped(
    desk: Desk, builder: BareBuilder, stopped: list[str] | None, said: tuple[str, str]
) -> None:
    """The result is logged, and nothing is raised."""
    scene = await fresh(desk, builder)
    with capture_logs() as logs:
        await scene.starter.stop(BareBuilder().job())
    assert getattr(builder, "stopped", None) == stopped
    (entry,) = logs
    assert (entry["log_level"], entry["event"], entry["job_id"]) == (*said, "FIRST-job")


@attrs.define
class Rebuilding(ScriptedBuilder):
    """It has built the job A again, as B, which is the newest of the start."""

    newest: str = "B"
    trouble: Exception | None = None

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        if self.trouble is not None:
            raise self.trouble
        newest = attrs.evolve(self.job(), id=self.newest)
        report = JobDescription(job=newest, status=JobStatus.IN_PROGRESS, replaces="A")
        return {"A": report} if self.newest != "A" else {}


@pytest.mark.parametrize(
    ("builder", "found", "stopped"),
    [
        (Rebuilding(), "B", False),
        (Rebuilding(), "C", True),
        (Rebuilding(newest="A"), "B", True),
        (Rebuilding(trouble=TemporaryError("down")), "B", True),
        (ScriptedBuilder(), "B", True),
    ],
)
async def test_a_newer_build_of_the_operations_job_is_no_orphan(
    desk: Desk, builder: ScriptedBuilder, found: str, stopped: bool
) -> None:
    """An attempt that lost the run looks up what it may have sent, and finds the rebuild of what
    its successor has recorded: the next check has that take its place."""
    scene = await fresh(desk, builder)
    recorded = attrs.evolve(builder.job(), id="A")
    await desk.finish(scene.attempt, recorded)
    with capture_logs():
        await scene.starter.stop(attrs.evolve(builder.job(), id=found))
    assert builder.stopped == ([found] if stopped else [])


async def test_a_newer_build_is_an_orphan_once_the_end_is_claimed(desk: Desk) -> None:
    """No check follows that could record it."""
    builder = Rebuilding()
    scene = await fresh(desk, builder)
    await desk.finish(scene.attempt, attrs.evolve(builder.job(), id="A"))
    await desk.claimed(PROVISIONED, "b")
    with capture_logs():
        await scene.starter.stop(attrs.evolve(builder.job(), id="B"))
    assert builder.stopped == ["B"]
