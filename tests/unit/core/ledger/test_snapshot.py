"""What a decision rests on: the items that were read, as long as they are unchanged."""

from collections.abc import Collection, Mapping, Sequence

import attrs
import pytest

from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.ledger import Conflict, UnreadableItems
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import Record, operation_key, payload_key, run_key
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from tests.desk import ORDER, PROVISIONING, TENANT, Desk, DeskLedger, run_id
from tests.ledgers import share_items

# --- what a decision rests on ------------------------------------------------------------------


async def test_after_a_conflict_what_the_first_load_brought_is_doubtful_too(desk: Desk) -> None:
    """A decision that then writes nothing rests on the current items, not on those read before."""
    await desk.stand(TenantState.PROVISIONED, tier="BASIC")
    await desk.finish(await desk.claimed(ORDER, "a"))

    async def meanwhile() -> None:
        await desk.stand(TenantState.PROVISIONED, tier="PREMIUM")
        await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), note="newer"))

    def read_tier(view: Snapshot) -> Decision[str | None]:
        tenant, run = view.tenant(TENANT), view.run(run_id(ORDER, "a"))
        assert tenant is not None
        assert run is not None
        if run.note is None:
            return Decision((attrs.evolve(run, note="mine"),), None)
        return Decision((), tenant.tier)

    class Terse(DeskLedger):
        """Its conflicts have the current run alone, and no other item."""

        async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
            try:
                await super().commit(records, unchanged=unchanged)
            except Conflict as conflict:
                key = run_key(run_id(ORDER, "a"))
                raise Conflict({key: conflict.items[key]}) from None

    terse = Terse()
    share_items(terse, desk.ledger)
    terse.before_commit.append(meanwhile)
    transactions = attrs.evolve(desk.transactions, ledger=terse)
    assert await transactions.run(read_tier) == "PREMIUM"


@pytest.mark.parametrize(("conflicts", "holds"), [(17, True), (19, False)])
async def test_a_decision_is_tried_twenty_times(desk: Desk, conflicts: int, holds: bool) -> None:
    """Two of the tries load items; after the last one a later attempt may try again."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    tries = list[int]()

    async def be_quicker() -> None:
        run = await desk.run(ORDER, "a")
        await desk.ledger.put(attrs.evolve(run, waits=run.waits + 1))

    def note(view: Snapshot) -> Decision[bool]:
        tries.append(1)
        run = view.run(run_id(ORDER, "a"))
        assert run is not None
        return Decision((attrs.evolve(run, note="mine"),), True)

    desk.ledger.before_commit = [be_quicker] * (conflicts + 1 if not holds else conflicts)
    if holds:
        assert await desk.transactions.run(note)
        assert len(tries) == conflicts + 2
    else:
        with pytest.raises(TemporaryError, match="Too many processes write the same items"):
            await desk.transactions.run(note)
        assert len(tries) == 20


async def test_items_of_an_earlier_try_are_no_condition(desk: Desk) -> None:
    """A decision depends on the items that its last try used: no other is checked."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    seen = list[Mapping[str, int]]()

    class Watched(DeskLedger):
        async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
            seen.append(unchanged)
            await super().commit(records, unchanged=unchanged)

    async def be_quicker() -> None:
        await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), waits=7))

    def note(view: Snapshot) -> Decision[bool]:
        run = view.run(run_id(ORDER, "a"))
        assert run is not None
        if run.waits != 7:
            view.tenant(TENANT, expect_absent=True)
        return Decision((attrs.evolve(run, note="mine"),), True)

    watched = Watched()
    share_items(watched, desk.ledger)
    watched.before_commit.append(be_quicker)
    assert await attrs.evolve(desk.transactions, ledger=watched).run(note)
    assert seen == [{f"TENANT#{TENANT}": 0}, {}]


async def test_only_what_a_refusal_has_read_is_loaded_again(desk: Desk) -> None:
    """A refusal's items are read again; other items of the snapshot aren't."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    await desk.finish(await desk.claimed(ORDER, "b"))
    loaded = list[Collection[str]]()

    class Watched(DeskLedger):
        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            loaded.append(keys)
            return await super().load(keys)

    watched = Watched()
    share_items(watched, desk.ledger)
    transactions = attrs.evolve(desk.transactions, ledger=watched)
    snapshot = Snapshot(desk.clock.now())
    a, b = run_id(ORDER, "a"), run_id(ORDER, "b")
    await transactions.run(lambda view: Decision((), [view.run(a), view.run(b)]), snapshot)
    loaded.clear()
    snapshot.turn_to(desk.later(1))
    await transactions.run(lambda view: Decision((), view.run(b)), snapshot)
    assert [set(keys) for keys in loaded] == [{run_key(b)}]


def test_a_run_that_was_seen_at_an_earlier_time_is_not_seen_any_more(desk: Desk) -> None:
    """A run that was read at an earlier time has to be read again."""
    snapshot = Snapshot(desk.clock.now())
    snapshot.learn({run_key("r"): None})
    assert snapshot.has_seen_run("r")
    snapshot.turn_to(desk.later(1))
    assert not snapshot.has_seen_run("r")


async def test_no_item_is_written_twice_in_a_transaction(desk: Desk) -> None:
    """DynamoDB would refuse it; a decision that does so is a bug in each ledger."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    run = await desk.run(ORDER, "a")
    with pytest.raises(AssertionError, match="RUN#"):
        await desk.transactions.run(lambda view: Decision((run, run), None))
    assert await desk.run(ORDER, "a") == run


async def test_an_unreadable_run_is_not_taken_for_absent(desk: Desk) -> None:
    """A run that can't be read raises; its payload that can't be read counts as absent."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    run = run_id(ORDER, "a")

    class Damaged(DeskLedger):
        unreadable: str

        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            found = dict(await super().load(keys))
            if found.pop(self.unreadable, None) is not None:
                raise UnreadableItems({self.unreadable: "newer"}, found=found)
            return found

    damaged = Damaged()
    share_items(damaged, desk.ledger)
    transactions = attrs.evolve(desk.transactions, ledger=damaged)
    damaged.unreadable = payload_key(run)
    assert await transactions.find_kept(run) == (await desk.run(ORDER, "a"), None)
    damaged.unreadable = run_key(run)
    with pytest.raises(UnreadableItems):
        await transactions.find_kept(run)


async def test_holders_are_found_of_the_tenants_that_are_held(desk: Desk) -> None:
    """An operation that can't be read, or has expired, hides no other tenant."""
    attempt = await desk.claimed(PROVISIONING, "a")
    held_by = attempt.run.operation_id

    class Damaged(DeskLedger):
        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            found = dict(await super().load(keys))
            found.pop(operation_key("odd"))
            raise UnreadableItems({operation_key("odd"): "newer"}, found=found)

    damaged = Damaged()
    share_items(damaged, desk.ledger)
    transactions = attrs.evolve(desk.transactions, ledger=damaged)

    operations = await transactions.find_operations([held_by, "gone", "odd"])
    assert operations == {held_by: await desk.operation(of=attempt)}


async def test_an_end_of_an_earlier_start_is_not_the_runs(desk: Desk) -> None:
    """Nothing is recorded yet of its own: the operation is over as an earlier start left it."""
    attempt = await desk.claimed(PROVISIONING, "a")
    operation = await desk.operation(of=attempt)
    await desk.ledger.put(attrs.evolve(operation, state=OperationState.OVER))
    assert await attempt.is_over() is True
    attempt.run = attrs.evolve(attempt.run, start_number=2)
    assert await attempt.is_over() is False
