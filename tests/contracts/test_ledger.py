"""What every ledger does, part one: it keeps, compares and finds."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from orchestrator.core.ledger.ledger import Conflict, Ledger
from orchestrator.core.ledger.record_parts import Failure, OperationState, Step
from orchestrator.core.ledger.records import PayloadRecord, Record, RunStatus, TenantRecord
from tests.contracts.samples import (
    BARE,
    FULL,
    NOW,
    VALUES,
    job,
    kept,
    later,
    operation,
    run,
    secrets,
    tenant,
)
from tests.ledgers import find_due

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: What a ledger without a limit is tried with.
LARGE_BYTES = 390_000


async def commit(ledger: Ledger, *records: Record) -> None:
    await ledger.commit(records, unchanged={})


async def refusal(
    ledger: Ledger, records: Sequence[Record], unchanged: dict[str, int] | None = None
) -> dict[str, Record | None]:
    """The current items that a refused commit gets."""
    with pytest.raises(Conflict) as refused:
        await ledger.commit(records, unchanged=unchanged or {})
    return dict(refused.value.items)


async def find(ledger: Ledger, key: str) -> Record | None:
    return (await ledger.load([key]))[key]


@pytest.mark.parametrize("records", [FULL, BARE, VALUES], ids=["full", "bare", "every value"])
async def test_records_are_kept_as_they_are(ledger: Ledger, records: Sequence[Record]) -> None:
    """Whatever a record says, it is read as it was written, of the same types."""
    await commit(ledger, *records)
    found = await ledger.load([record.key for record in records])
    assert found == {record.key: kept(record) for record in records}
    # Equal is not the same: 1 == 1.0 == True.
    assert [repr(found[record.key]) for record in records] == [repr(kept(one)) for one in records]


@pytest.mark.parametrize(
    "record",
    [
        run(event_id="\ud800"),
        run(error=Failure(type="ValueError", message="\udcff")),
        run(steps={"s": Step(name="s", result=["\ud800"], recorded_at=NOW)}),
        run(steps={"s": Step(name="s", result=2**70, recorded_at=NOW)}),
    ],
    ids=["event id", "message", "step", "huge number in a step"],
)
async def test_every_json_value_can_be_stored(ledger: Ledger, record: Record) -> None:
    """Lone surrogates and huge numbers come in JSON, so they must not stop a run."""
    await commit(ledger, record)
    assert await find(ledger, record.key) == kept(record)


async def test_a_large_payload_is_kept(ledger: Ledger) -> None:
    """A payload of the size that the ledger says it takes comes back byte for byte."""
    data = os.urandom(ledger.max_payload_bytes or LARGE_BYTES)
    payload = PayloadRecord(run_id="r" * 64, data=data)
    await commit(ledger, payload)
    assert await find(ledger, payload.key) == kept(payload)


async def test_versions_count_the_writes(ledger: Ledger) -> None:
    """Each write is made at the version of the one before, and what it wrote is read."""
    record = tenant()
    for tier in ("A", "B", "C"):
        record = attrs.evolve(record, tier=tier)
        await commit(ledger, record)
        record = kept(record)
        assert await find(ledger, record.key) == record
    assert record.version == 3


@pytest.mark.parametrize("record", FULL, ids=lambda record: record.key.partition("#")[0])
async def test_fields_of_another_release_are_kept(ledger: Ledger, record: Record) -> None:
    """Each write of the record has them, and a refused one gets them."""
    newer: dict[str, Any] = {"#": {"newer": {"S": "beside"}}}
    if not isinstance(record, PayloadRecord):
        newer |= {"newer": [1, {"deep": None}], "later": "é"}
    await commit(ledger, attrs.evolve(record, unknown=newer))
    for version in (1, 2):
        found = await find(ledger, record.key)
        assert found is not None
        assert (found.version, found.unknown) == (version, newer)
        await commit(ledger, attrs.evolve(found))
    refused = (await refusal(ledger, [record]))[record.key]
    assert refused is not None
    assert refused.unknown == newer


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_write_at_another_version_is_refused(ledger: Ledger, version: int) -> None:
    """A write that was decided on another version changes nothing, and gets the current item."""
    await commit(ledger, tenant())
    await commit(ledger, tenant(version=1, tier="B"))
    standing = tenant(version=2, tier="B")
    assert await refusal(ledger, [tenant(version=version, tier="X")]) == {standing.key: standing}
    assert await find(ledger, standing.key) == standing


async def test_a_write_to_what_is_not_there_is_refused(ledger: Ledger) -> None:
    """It gets None as the current item."""
    ghost = tenant(version=1)
    assert await refusal(ledger, [ghost]) == {ghost.key: None}
    assert await find(ledger, ghost.key) is None


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_all_is_written_or_nothing(ledger: Ledger, place: int) -> None:
    """One item at another version keeps the others from being written, wherever it comes."""
    await commit(ledger, tenant())
    fresh: list[Record] = [run(), operation()]
    writes = [*fresh[:place], tenant(tier="X"), *fresh[place:]]
    assert await refusal(ledger, writes) == {tenant().key: kept(tenant())}
    assert await ledger.load([record.key for record in writes]) == {
        run().key: None,
        operation().key: None,
        tenant().key: kept(tenant()),
    }
    await commit(ledger, *fresh, tenant(version=1, tier="Y"))
    found = await ledger.load([record.key for record in writes])
    assert [record and record.version for record in found.values()].count(1) == 2


@pytest.mark.parametrize(
    ("key", "version", "holds"),
    [
        ("TENANT#two", 2, True),
        ("TENANT#two", 1, False),
        ("TENANT#two", 3, False),
        ("TENANT#two", 0, False),
        ("TENANT#none", 0, True),
        ("TENANT#none", 1, False),
    ],
)
async def test_unchanged_items_are_compared(
    ledger: Ledger, key: str, version: int, holds: bool
) -> None:
    """A write depends on items that it doesn't write, present or absent."""
    await commit(ledger, tenant("two"))
    await commit(ledger, tenant("two", version=1))
    standing = {"TENANT#two": tenant("two", version=2), "TENANT#none": None}
    if holds:
        await ledger.commit([run()], unchanged={key: version})
    else:
        assert await refusal(ledger, [run()], {key: version}) == {key: standing[key]}
    assert await ledger.load(standing) == standing
    assert await find(ledger, run().key) == (kept(run()) if holds else None)


async def test_checks_alone_are_a_commit(ledger: Ledger) -> None:
    """Nothing need be written to check that items are unchanged."""
    await commit(ledger, tenant())
    await ledger.commit([], unchanged={"TENANT#tenant-1": 1, "RUN#none": 0})
    assert await refusal(ledger, [], {"TENANT#tenant-1": 1, "RUN#none": 1}) == {"RUN#none": None}


async def test_a_refusal_names_all_that_stand_otherwise(ledger: Ledger) -> None:
    """It has exactly those, of writes and checks alike: a second try needs no read."""
    here: list[Record] = [
        tenant("a"),
        run("b"),
        operation("c"),
        job("d"),
        PayloadRecord(run_id="e", data=b"e"),
    ]
    await commit(ledger, *here)
    writes = [
        tenant("a", tier="X"),  # there
        tenant("f", version=4),  # not there
        tenant("g"),  # as thought
        attrs.evolve(kept(here[1]), version=1),  # as thought
    ]
    unchanged = {"OP#c": 5, "JOB#CODE_BUILD#d": 1, "PAYLOAD#e": 0, "OP#h": 0, "OP#i": 2}
    assert await refusal(ledger, writes, unchanged) == {
        "TENANT#a": kept(here[0]),
        "TENANT#f": None,
        "OP#c": kept(here[2]),
        "PAYLOAD#e": kept(here[4]),
        "OP#i": None,
    }


async def try_to_write(ledger: Ledger, record: TenantRecord) -> Conflict | None:
    try:
        await commit(ledger, record)
    except Conflict as refused:
        return refused
    return None


async def test_one_of_many_wins_each_version(ledger: Ledger) -> None:
    """Of all that write one item at once exactly one does, and the others get what it wrote."""
    for version in range(3):
        contenders = [tenant(version=version, tier=f"{version} {n}") for n in range(12)]
        refusals = await asyncio.gather(*(try_to_write(ledger, one) for one in contenders))
        (winner,) = (
            one for one, refused in zip(contenders, refusals, strict=True) if refused is None
        )
        current = [refused.items for refused in refusals if refused is not None]
        assert current == [{winner.key: kept(winner)}] * 11
        assert await find(ledger, winner.key) == kept(winner)


async def test_no_write_rests_on_what_another_changes(ledger: Ledger) -> None:
    """Of two writes of which each relies on what the other changes, one is refused."""

    async def write(mine: str, others: str) -> bool:
        try:
            await ledger.commit([tenant(mine)], unchanged={f"TENANT#{others}": 0})
        except Conflict:
            return False
        return True

    async def meet(n: int) -> int:
        return sum(await asyncio.gather(write(f"a{n}", f"b{n}"), write(f"b{n}", f"a{n}")))

    assert await asyncio.gather(*(meet(n) for n in range(12))) == [1] * 12


async def test_a_conflict_has_the_current_items(ledger: Ledger) -> None:
    """Many processes that count in one item, and never read it, lose no count."""

    async def count(me: str) -> None:
        standing, left = tenant(), 4
        while left:
            mine = attrs.evolve(standing, tier=me)
            try:
                await commit(ledger, mine)
            except Conflict as refused:
                current = refused.items[mine.key]
                assert isinstance(current, TenantRecord)
                standing = current
            else:
                standing, left = kept(mine), left - 1

    await asyncio.gather(*(count(f"{n}") for n in range(6)))
    counted = await find(ledger, tenant().key)
    assert counted is not None
    assert counted.version == 24


@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 250, 601])
async def test_many_are_loaded_at_once(ledger: Ledger, number: int) -> None:
    """Each requested key is answered once, with the item or None, however many there are."""
    there = [tenant(f"t{n}") for n in range(0, number, 7)]
    for start in range(0, len(there), 50):
        await commit(ledger, *there[start : start + 50])
    keys = [f"TENANT#t{n}" for n in range(number)]
    expected: dict[str, Record | None] = dict.fromkeys(keys)
    assert await ledger.load(keys) == expected | {record.key: kept(record) for record in there}


async def test_a_key_that_is_read_twice_is_answered_once(ledger: Ledger) -> None:
    """The same key twice is one answer."""
    await commit(ledger, tenant())
    assert await ledger.load([tenant().key] * 2) == {tenant().key: kept(tenant())}


async def test_due_items_are_found_page_by_page(ledger: Ledger) -> None:
    """What is due until the moment, that one included; wherever it starts, all once."""
    moments = [later(n * 10 + n / 1e6) for n in range(12)]
    due = [
        (run if n % 3 else operation)(f"{(n * 7) % 12:02}", due_at=moment)
        for n, moment in enumerate(moments)
    ]
    await commit(ledger, *reversed(due), run("never"), tenant(), operation())
    keys = [record.key for record in due]
    just_before = later(70 + 6 / 1e6)
    for limit in (1, 3, 50):
        assert set(await find_due(ledger, before=moments[-1], limit=limit)) == set(keys)
        assert set(await find_due(ledger, before=moments[7], limit=limit)) == set(keys[:8])
        assert set(await find_due(ledger, before=just_before, limit=limit)) == set(keys[:7])
        assert await find_due(ledger, before=later(-1), limit=limit) == []
        for start in range(5):
            found = await find_due(ledger, before=moments[-1], limit=limit, start=start)
            assert sorted(found) == sorted(keys)


async def test_the_longest_due_come_first_in_a_page(ledger: Ledger) -> None:
    """The items of a page are sorted by their due time, and not by their key."""
    runs = [run(f"{(n * 7) % 12:02}", due_at=later(n)) for n in range(12)]
    await commit(ledger, *reversed(runs))
    order = [record.key for record in runs]
    page = await ledger.find_due(before=later(60), limit=50)
    assert page.items
    assert list(page.items) == sorted(page.items, key=order.index)


async def test_a_page_continues_after_an_item_that_is_no_longer_due(ledger: Ledger) -> None:
    """The item that the cursor names may be settled meanwhile; what stays due isn't found again."""
    await commit(ledger, *(run(f"{n}", due_at=NOW) for n in range(12)))
    page = await ledger.find_due(before=NOW, limit=2)
    found = list(page.items)
    while page.cursor is not None:
        if page.items:
            last = page.items[-1].removeprefix("RUN#")
            await commit(ledger, run(last, version=1, status=RunStatus.SUCCEEDED))
        page = await ledger.find_due(before=NOW, limit=2, cursor=page.cursor)
        found += page.items
    assert sorted(found) == sorted(run(f"{n}").key for n in range(12))


async def test_all_of_one_moment_are_due(ledger: Ledger) -> None:
    """Runs that are due at the same time don't hide each other."""
    runs = [run(f"{n}", due_at=NOW) for n in range(9)]
    await commit(ledger, *runs)
    for limit in (1, 4, 9):
        found = await find_due(ledger, before=NOW, limit=limit)
        assert sorted(found) == sorted(record.key for record in runs)


async def test_a_settled_item_is_no_longer_due(ledger: Ledger) -> None:
    """Only the current due time of an item counts."""
    await commit(ledger, run("a", due_at=NOW), run("b", due_at=later(1)), run("c"))
    await commit(ledger, operation("a", due_at=NOW))
    await commit(
        ledger,
        operation("a", version=1, state=OperationState.OVER),
        run("a", version=1, status=RunStatus.SUCCEEDED),
        run("b", version=1, due_at=later(5)),
        run("c", version=1, due_at=later(3)),
    )
    assert sorted(await find_due(ledger, before=later(4), limit=9)) == ["RUN#c"]
    assert sorted(await find_due(ledger, before=later(5), limit=9)) == ["RUN#b", "RUN#c"]


async def test_secrets_to_look_after_are_due_as_well(ledger: Ledger) -> None:
    """Secrets are due until there are none left."""
    await commit(ledger, secrets("a", due_at=NOW), run("b", due_at=later(1)), secrets("c"))
    found = await find_due(ledger, before=later(1), limit=9)
    assert sorted(found) == ["RUN#b", "SECRETS#a"]
    await commit(ledger, secrets("a", version=1))
    assert sorted(await find_due(ledger, before=later(1), limit=9)) == ["RUN#b"]


async def test_a_ledger_that_is_there_passes_its_check(ledger: Ledger) -> None:
    """Nothing is raised."""
    await ledger.check()


async def test_a_refused_commit_leaves_what_is_due(ledger: Ledger) -> None:
    """The index of due items stays as it was, since it follows the stored items alone."""
    await commit(ledger, run(due_at=NOW))
    await refusal(ledger, [run(version=5), run("other", due_at=NOW)])
    assert sorted(await find_due(ledger, before=NOW, limit=9)) == [run().key]


async def test_the_samples_fill_every_field() -> None:
    """A field that is added to a record is tried, too; `unknown` ones of other releases have tests
    of their own."""
    for full, bare in zip(FULL, BARE, strict=True):
        for field in attrs.fields(type(full)):
            if field.default is not attrs.NOTHING and field.name not in ("version", "unknown"):
                assert getattr(full, field.name) != getattr(bare, field.name), field.name
