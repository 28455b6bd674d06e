"""Which secrets a store keeps for a start: noted before they are stored, gone once it is over."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator.core.errors import TakenOver
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.guards import is_needed
from orchestrator.core.ledger.operations import replace
from orchestrator.core.ledger.record_parts import OperationState, Report
from orchestrator.core.ledger.records import (
    OperationRecord,
    RunRecord,
    RunStatus,
    SecretsRecord,
    secrets_key,
)
from orchestrator.core.secrets.references import reserve_secret_names
from orchestrator.core.secrets.secret_names import begin_removal, end_removal
from tests.desk import ORDER, PROVISIONED, PROVISIONING, TIMINGS, Desk, event
from tests.ledgers import find_due

KIND, PREFIX = "SECRETS_MANAGER", "/orchestrator"


async def kept(desk: Desk, start_key: str) -> SecretsRecord | None:
    found = (await desk.ledger.load([secrets_key(start_key)]))[secrets_key(start_key)]
    assert found is None or isinstance(found, SecretsRecord)
    return found


async def begin(desk: Desk, start_key: str) -> SecretsRecord | None:
    return await desk.transactions.run(
        lambda snapshot: begin_removal(snapshot, start_key, desk.timings)
    )


async def clear(desk: Desk, start_key: str) -> bool:
    """What the sweep does: whether there was something to remove."""
    desk.turn(60)
    removing = await begin(desk, start_key)
    if removing is not None:
        await desk.transactions.run(lambda snapshot: end_removal(snapshot, removing))
    return removing is not None


async def test_names_are_noted_before_anything_is_stored(desk: Desk) -> None:
    """They are the start's own, with a part that can't be guessed."""
    attempt = await desk.claimed(PROVISIONING, "a")
    names = await reserve_secret_names(attempt, KIND, PREFIX, "x", ["DB_PASSWORD", "secret"])
    assert names == {
        "DB_PASSWORD": f"{PREFIX}/x/{attempt.start_key}/1/DB_PASSWORD",
        "secret": f"{PREFIX}/x/{attempt.start_key}/1/secret",
    }
    record = await kept(desk, attempt.start_key)
    assert record is not None
    assert set(record.names) == set(names.values())


async def test_a_repeated_start_has_the_names_that_were_noted(desk: Desk) -> None:
    """A later attempt uses the names of the first; a new one has a random part of its own."""
    attempt = await desk.claimed(PROVISIONING, "a")
    names = await reserve_secret_names(attempt, KIND, PREFIX, "x", ["DB_PASSWORD", "secret"])
    await desk.hand_back(attempt)
    attempt = await desk.claimed(PROVISIONING, "a")
    assert await reserve_secret_names(attempt, KIND, PREFIX, "y", ["secret"]) == {
        "secret": names["secret"]
    }
    more = await reserve_secret_names(attempt, KIND, PREFIX, "y", ["secret", "token"])
    assert more == {
        "secret": names["secret"],
        "token": f"{PREFIX}/y/{attempt.start_key}/1/token",
    }
    record = await kept(desk, attempt.start_key)
    assert record is not None
    assert set(record.names) == {*names.values(), more["token"]}


async def test_names_of_an_earlier_release_are_used_as_they_are(desk: Desk) -> None:
    """They had no random part: the builder may have been given them."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["token"])
    record = await kept(desk, attempt.start_key)
    assert record is not None
    old = f"{PREFIX}/{attempt.start_key}/1/secret"
    await desk.ledger.put(attrs.evolve(record, names=(old,)))
    await desk.hand_back(attempt)
    attempt = await desk.claimed(PROVISIONING, "a")
    names = await reserve_secret_names(attempt, KIND, PREFIX, "y", ["secret", "token"])
    assert names["secret"] == old
    assert names["token"].startswith(f"{PREFIX}/y/")


async def test_names_under_another_prefix_are_left_to_be_removed(desk: Desk) -> None:
    """The setting has changed, and with it perhaps what the service may write."""
    attempt = await desk.claimed(PROVISIONING, "a")
    (old,) = (await reserve_secret_names(attempt, KIND, "/before", "x", ["secret"])).values()
    (new,) = (await reserve_secret_names(attempt, KIND, PREFIX, "y", ["secret"])).values()
    assert new == f"{PREFIX}/y/{attempt.start_key}/1/secret"
    record = await kept(desk, attempt.start_key)
    assert record is not None
    assert record.names == (old, new)


async def test_a_late_start_has_as_much_time_as_an_early_one(desk: Desk) -> None:
    """It may be out when its run has failed: what counts is when that start was noted."""
    first = await desk.claimed(ORDER, "a")
    await reserve_secret_names(first, KIND, PREFIX, "x", ["secret"])
    await desk.hand_back(first)
    desk.turn(desk.timings.deadline_s)
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.fail(attempt, ends_without_job=False, possible_until=desk.clock.now())
    assert not await clear(desk, attempt.start_key)
    desk.turn(desk.timings.deadline_s)
    assert await clear(desk, attempt.start_key)


async def test_an_attempt_that_lost_its_lease_reserves_no_names(desk: Desk) -> None:
    """Nothing is stored for a start that isn't the attempt's own any more."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.taken_over(PROVISIONING, "a")
    with pytest.raises(TakenOver):
        await reserve_secret_names(first, KIND, PREFIX, "x", ["secret"])
    assert await kept(desk, first.start_key) is None


async def test_secrets_stay_as_long_as_their_start_may_need_them(desk: Desk) -> None:
    """While its run is in progress or waits, and while the job runs; then they are removed,
    once."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    assert not await clear(desk, attempt.start_key)
    await desk.hand_back(attempt)
    assert not await clear(desk, attempt.start_key)
    attempt = await desk.claimed(PROVISIONING, "a")
    await desk.finish(attempt, desk.job("b-1"))
    assert not await clear(desk, attempt.start_key)
    await desk.end(PROVISIONED, "o", job="b-1")
    assert await clear(desk, attempt.start_key)
    assert not await clear(desk, attempt.start_key)
    record = await kept(desk, attempt.start_key)
    assert record is not None
    assert (record.names, record.due_at) == ((), None)


async def test_a_start_that_was_refused_needs_no_secrets(desk: Desk) -> None:
    """The operation is given back; its next start has a key, and so names, of its own."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.fail(attempt)
    again = await desk.claimed(PROVISIONING, "a")
    assert again.start_key != attempt.start_key
    names = await reserve_secret_names(again, KIND, PREFIX, "x", ["secret"])
    assert await clear(desk, attempt.start_key)
    assert not await clear(desk, again.start_key)
    assert names["secret"].startswith(f"{PREFIX}/x/{again.start_key}/")


async def test_a_run_that_opens_nothing_needs_them_until_it_is_finished(desk: Desk) -> None:
    """No other run has its start; a job that it has started is waited for."""
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    assert not await clear(desk, attempt.start_key)
    await desk.fail(attempt, ends_without_job=False)
    assert await clear(desk, attempt.start_key)
    attempt = await desk.claimed(ORDER, "b")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.finish(attempt, desk.job("b-1"))
    assert not await clear(desk, attempt.start_key)


async def test_a_name_is_not_used_again_once_its_removal_has_begun(desk: Desk) -> None:
    """The store may still be deleting it; and what is new is not removed with the old."""
    attempt = await desk.claimed(ORDER, "a")
    old = await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.fail(attempt, ends_without_job=False)
    desk.turn(60)
    removing = await begin(desk, attempt.start_key)
    assert removing is not None

    again = await desk.claimed(ORDER, "a")
    assert again.start_key == attempt.start_key
    new = await reserve_secret_names(again, KIND, PREFIX, "x", ["secret"])
    assert new["secret"] == f"{PREFIX}/x/{again.start_key}/2/secret" != old["secret"]
    await desk.transactions.run(lambda snapshot: end_removal(snapshot, removing))
    record = await kept(desk, again.start_key)
    assert record is not None
    assert record.names == (new["secret"],)
    assert record.due_at is not None


async def test_a_removal_that_meets_a_new_attempt_gives_way(desk: Desk) -> None:
    """The run is claimed in the very moment in which its secrets are to go."""
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.fail(attempt, ends_without_job=False)
    desk.turn(60)

    async def claim() -> None:
        await desk.claimed(ORDER, "a")

    desk.ledger.before_commit.append(claim)
    assert await begin(desk, attempt.start_key) is None
    record = await kept(desk, attempt.start_key)
    assert record is not None
    assert not record.is_closed


async def test_one_removes_at_a_time(desk: Desk) -> None:
    """Another process removes them a minute later if the one that has begun crashes."""
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.fail(attempt, ends_without_job=False)
    desk.turn(60)
    assert await begin(desk, attempt.start_key) is not None
    assert await begin(desk, attempt.start_key) is None
    desk.turn(60)
    assert await begin(desk, attempt.start_key) is not None


async def test_secrets_are_due_items(desk: Desk) -> None:
    """The sweep finds them by their key."""
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    assert await find_due(desk.ledger, before=desk.later(59)) == []
    due = await find_due(desk.ledger, before=desk.later(60))
    assert due == [secrets_key(attempt.start_key)]


NOW = Desk().clock.now()
KEPT = SecretsRecord(
    start_key="op-2", operation_id="op", start_number=2, run_id="r", kind=KIND, noted_at=NOW
)


@pytest.mark.parametrize(
    ("operation", "status", "needed"),
    [
        (None, None, False),
        (None, RunStatus.RUNNING, True),
        (None, RunStatus.RETRY, True),
        (None, RunStatus.FAILED, False),
        ({"start_number": 1, "state": OperationState.OVER}, RunStatus.RUNNING, True),
        ({"start_number": 1, "state": OperationState.OVER}, RunStatus.FAILED, False),
        ({"start_number": 3, "state": OperationState.OPEN}, RunStatus.RUNNING, False),
        ({"state": OperationState.OPEN}, RunStatus.SUCCEEDED, True),
        ({"state": OperationState.OVER}, RunStatus.SUCCEEDED, False),
        ({"state": OperationState.GIVEN_BACK}, RunStatus.FAILED, False),
        ({"state": OperationState.OVER, "report": "waits"}, RunStatus.SUCCEEDED, True),
        ({"state": OperationState.OVER, "report": "sent"}, RunStatus.SUCCEEDED, False),
    ],
)
def test_secrets_are_needed_until_their_start_has_ended_and_was_reported(
    operation: Mapping[str, Any] | None, status: RunStatus | None, needed: bool
) -> None:
    """Its operation decides, whatever comes next; before its record exists its run does."""
    now = NOW
    record, run = None, None
    if operation is not None:
        about = {"start_number": 2, "kind": Kind.PROVISIONING, **operation}
        reported = about.pop("report", None)
        report = Report(url="u", body={}, done_at=now if reported == "sent" else None)
        record = OperationRecord(
            operation_id="op",
            tenant_id="t",
            request_key="k",
            opener="r",
            opened_at=now,
            report=report if reported else None,
            **about,
        )
    if status is not None:
        sent = event(PROVISIONING, "a")
        run = RunRecord(
            run_id="r",
            request_key="k",
            event_type=sent.type,
            source=sent.source,
            event_id=sent.id,
            event_time=now,
            body_digest="",
            tenant_id="t",
            status=status,
            attempt=1,
            first_seen=now,
            started_at=now,
            operation_id="op",
        )
    assert is_needed(KEPT, record, run, now, TIMINGS) is needed


@pytest.mark.parametrize(
    ("after_s", "needed"), [(TIMINGS.deadline_s - 1, True), (TIMINGS.deadline_s, False)]
)
async def test_a_job_that_a_replay_has_overtaken_keeps_its_secrets_for_a_while(
    desk: Desk, after_s: float, needed: bool
) -> None:
    """It holds no tenant, so it may still be running, and no check queries it."""
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    await desk.finish(attempt, desk.job("b-1"))
    again = await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)
    assert again.start_key != attempt.start_key
    await desk.finish(again, desk.job("b-2"))
    desk.turn(after_s)
    assert (await begin(desk, attempt.start_key) is None) is needed


@pytest.mark.parametrize(
    ("after_s", "needed"), [(TIMINGS.deadline_s - 1, True), (TIMINGS.deadline_s, False)]
)
async def test_a_job_that_was_built_again_keeps_its_secrets_as_long_as_the_first(
    desk: Desk, after_s: float, needed: bool
) -> None:
    """The time counts from when the newer job was recorded."""
    attempt = await desk.claimed(ORDER, "a")
    await reserve_secret_names(attempt, KIND, PREFIX, "x", ["secret"])
    former, newer = desk.job("b-1"), desk.job("b-2")
    await desk.finish(attempt, former)
    desk.turn(500)
    operation = attempt.run.operation_id
    await desk.transactions.run(
        lambda snapshot: replace(snapshot, operation, 1, former, newer, desk.timings)
    )
    again = await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)
    await desk.finish(again, desk.job("b-3"))
    desk.turn(after_s)
    assert (await begin(desk, attempt.start_key) is None) is needed
