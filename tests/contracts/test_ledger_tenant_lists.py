"""What every ledger does, part three: it lists tenants and operations, and counts them."""

from functools import partial
from itertools import product

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.ledger import Ledger, OpenOperations, Summary
from orchestrator.core.ledger.lifecycle import NO_STATE, TenantState
from orchestrator.core.ledger.pages import Count, Page
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import RunStatus
from tests.contracts.pages import commit, read_all
from tests.contracts.samples import JOB, kept, later, operation, run, tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("limit", [3, 50])
async def test_tenants_are_listed_by_state(ledger: Ledger, limit: int) -> None:
    """Each state's tenants, and all together, are in the order of their ids, page by page."""
    states = list(TenantState)
    tenants = [tenant(f"t-{n:02}", state=states[n * 7 % len(states)]) for n in range(25)]
    await commit(ledger, *reversed(tenants), tenant("t-unseen", state=None), run(), operation())
    for state in (None, *states):
        list_tenants = partial(ledger.list_tenants, state=state, limit=limit)
        read = await read_all(list_tenants, limit=limit)
        assert read == [kept(one) for one in tenants if state in (None, one.state)]


async def test_tenants_stay_where_they_are(ledger: Ledger) -> None:
    """A tenant that comes or changes its state moves none of the others."""
    await commit(ledger, *(tenant(name) for name in "bdfh"))
    first = await ledger.list_tenants(limit=2)
    assert [one.tenant_id for one in first.items] == ["b", "d"]
    changed = tenant("f", version=1, state=TenantState.DEPLOYING)
    await commit(ledger, tenant("a"), tenant("g"), changed)
    second = await ledger.list_tenants(limit=2, cursor=first.cursor)
    assert [one.tenant_id for one in second.items] == ["f", "g"]
    third = await ledger.list_tenants(limit=2, cursor=second.cursor)
    assert [one.tenant_id for one in third.items] == ["h"]
    active = await ledger.list_tenants(state=TenantState.ACTIVE)
    assert [one.tenant_id for one in active.items] == ["a", "b", "d", "g", "h"]


async def test_tenants_of_any_name_are_listed(ledger: Ledger) -> None:
    """The tenant comes in its place, whatever its id is made of."""
    names = ["\t", "\n1", " ", " a", "!", "0", "A", "a", "~", "é", "漢", "\uffff", "😀"]
    await commit(ledger, *(tenant(name) for name in reversed(names)))
    read = await read_all(partial(ledger.list_tenants, limit=3), limit=3)
    assert [one.tenant_id for one in read] == names


async def test_open_operations_are_counted_by_kind(ledger: Ledger) -> None:
    """They have the time of the oldest; one that is over or holds no tenant isn't one."""
    opened = {
        "op-2": later(20),
        "op-1": later(10),
        "op-3": later(30),
    }
    open_ones = [
        operation(name, kind=Kind.CLEAN_UP, state=OperationState.OPEN, opened_at=since)
        for name, since in opened.items()
    ]
    others = [
        operation("op-4", kind=Kind.CLEAN_UP, state=OperationState.OVER),
        operation("op-5", kind=Kind.CLEAN_UP, state=OperationState.GIVEN_BACK),
        operation("op-6", kind=None, state=OperationState.OPEN),
    ]
    await commit(ledger, *open_ones, *others)
    assert await ledger.count_open(Kind.CLEAN_UP, most=10) == OpenOperations(3, later(10))
    assert await ledger.count_open(Kind.CLEAN_UP, most=2) == OpenOperations(2, later(10))
    oldest = kept(open_ones[1])
    await ledger.commit([attrs.evolve(oldest, state=OperationState.OVER)], unchanged={})
    assert await ledger.count_open(Kind.CLEAN_UP, most=10) == OpenOperations(2, later(20))


async def test_no_open_operation_is_counted_as_none(ledger: Ledger) -> None:
    """Their number is zero, and there is no oldest one."""
    assert await ledger.count_open(Kind.DEPLOYMENT, most=10) == OpenOperations(0, None)


async def test_tenants_are_listed_by_the_beginning_of_their_ids(ledger: Ledger) -> None:
    """They are listed in any state or in one, whatever the letters are, page by page."""
    names = ["a", "ab", "ab-1", "ab-2", "ab-\uffff", "ab-😀", "abc", "b", "é", "éa"]
    states = (TenantState.ACTIVE, TenantState.DEPLOYING)
    tenants = [tenant(name, state=states[n % 2]) for n, name in enumerate(names)]
    await commit(ledger, *tenants)
    for prefix, state, limit in product(
        ("", "a", "ab-", "ab-1", "é", "z", "x" * 2000), (None, *states), (1, 2, 50)
    ):
        list_tenants = partial(ledger.list_tenants, prefix=prefix, state=state, limit=limit)
        assert await read_all(list_tenants, limit=limit) == [
            kept(one)
            for one in tenants
            if one.tenant_id.startswith(prefix) and state in (None, one.state)
        ]


async def test_tenants_that_never_began_are_listed(ledger: Ledger) -> None:
    """The state `none` lists them, and no other list of states does."""
    unseen = [tenant(f"u-{n}", state=None) for n in range(3)]
    await commit(ledger, *unseen, tenant("t-1"))
    list_unseen = partial(ledger.list_tenants, state=NO_STATE, limit=2)
    assert await read_all(list_unseen, limit=2) == [kept(one) for one in unseen]
    assert (await ledger.list_tenants(state=NO_STATE, prefix="u-1")).items == [kept(unseen[1])]
    assert [one.tenant_id for one in (await ledger.list_tenants()).items] == ["t-1"]


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
async def test_tenants_are_listed_by_the_attention_that_they_need(
    ledger: Ledger, limit: int
) -> None:
    """Failed or never begun, the latest first; without a job, then with one, the oldest first; at
    rest, the latest first."""
    resting: list[tuple[str, TenantState | None]] = [
        ("active", TenantState.ACTIVE),
        ("failed", TenantState.DEPLOYMENT_FAILED),
        ("provisioned", TenantState.PROVISIONED),
        ("none", None),
        ("removed", TenantState.DEPROVISIONED),
        ("not removed", TenantState.DEPROVISION_FAILED),
        ("not made", TenantState.PROVISION_FAILED),
    ]
    for n, (name, state) in enumerate(resting):
        await commit(ledger, tenant(name, state=state, changed_at=later(n)))
    for n, name in enumerate(("runs 1", "waits 1", "runs 2", "waits 2")):
        held = operation(
            f"operation-{n}",
            tenant_id=name,
            opened_at=later(n),
            job=JOB if name.startswith("runs") else None,
        )
        await commit(ledger, held, tenant(name, operation_id=held.operation_id))
    # What holds no tenant, or holds it no more, is in none of these.
    await commit(
        ledger,
        operation("of a run", kind=None, tenant_id="active"),
        operation("over", state=OperationState.OVER, tenant_id="active"),
        operation("given back", state=OperationState.GIVEN_BACK, tenant_id="none"),
    )
    read = await read_all(partial(ledger.list_by_attention, limit=limit), limit=limit)
    assert [one.tenant_id for one in read] == [
        *("not made", "not removed", "none", "failed"),
        *("waits 1", "waits 2"),
        *("runs 1", "runs 2"),
        *("removed", "provisioned", "active"),
    ]


async def test_a_tenant_that_moves_is_in_its_new_place(ledger: Ledger) -> None:
    """An operation that gets its job, ends and fails takes its tenant along."""

    async def places() -> list[str]:
        return [one.tenant_id for one in (await ledger.list_by_attention()).items]

    await commit(
        ledger,
        tenant("f", state=TenantState.PROVISION_FAILED),
        tenant("r"),
        operation("w", tenant_id="w", opened_at=later(5)),
        tenant("w", operation_id="w"),
        operation("t", tenant_id="t"),
        tenant("t", operation_id="t"),
    )
    assert await places() == ["f", "t", "w", "r"]
    await commit(ledger, operation("t", tenant_id="t", version=1, job=JOB))
    assert await places() == ["f", "w", "t", "r"]
    over = operation("t", tenant_id="t", version=2, job=JOB, state=OperationState.OVER)
    await commit(
        ledger,
        over,
        tenant("t", version=1, state=TenantState.PROVISION_FAILED, changed_at=later(9)),
    )
    assert await places() == ["t", "f", "w", "r"]


async def test_a_tenants_operations_are_listed(ledger: Ledger) -> None:
    """Its own and no other's, the last opened first; a run's own is none of a tenant's."""
    mine = [
        operation(f"{n * 7 % 25:02}", tenant_id="t-1", opened_at=later(n // 2)) for n in range(25)
    ]
    await commit(
        ledger,
        *mine,
        operation("other", tenant_id="t-2"),
        operation("own", kind=None, tenant_id="t-1"),
        run("run", tenant_id="t-1"),
        tenant("t-1"),
    )
    mine.sort(key=lambda one: (one.opened_at, one.operation_id), reverse=True)
    for limit in (3, 20, 25, 50):
        listed = partial(ledger.list_operations, tenant_id="t-1", limit=limit)
        assert await read_all(listed, limit=limit) == [kept(one) for one in mine]
    for unknown in ("t-3", "", "x" * 3000):
        assert await ledger.list_operations(tenant_id=unknown) == Page([], None)
    again = operation("07", tenant_id="t-1", opened_at=later(100), version=1, start_number=2)
    await commit(ledger, again)
    assert (await ledger.list_operations(tenant_id="t-1", limit=1)).items == [kept(again)]


async def test_a_ledger_is_summed_up(ledger: Ledger) -> None:
    """It has each state's number, cut at a limit, failed runs, and the oldest open operation."""
    states = {state: Count(0) for state in (*TenantState, NO_STATE)}
    empty = Summary(tenants=states, failed_runs=Count(0), oldest=None)
    assert await ledger.summarize(most=3) == empty
    oldest = operation("oldest", opened_at=later(-1), job=JOB)
    await commit(
        ledger,
        *(tenant(f"a-{n}") for n in range(3)),
        *(tenant(f"d-{n}", state=TenantState.DEPLOYING) for n in range(4)),
        tenant("n", state=None),
        *(run(f"{n}", status=RunStatus.FAILED) for n in range(6)),
        run("other"),
        operation("newer"),
        oldest,
        operation("own", kind=None, opened_at=later(-9)),
        operation("over", opened_at=later(-9), state=OperationState.OVER),
    )
    states |= {
        TenantState.ACTIVE: Count(3),
        TenantState.DEPLOYING: Count(3, is_capped=True),
        NO_STATE: Count(1),
    }
    failed = Count(3, is_capped=True)
    summed_up = Summary(tenants=states, failed_runs=failed, oldest=kept(oldest))
    assert await ledger.summarize(most=3) == summed_up
    assert (await ledger.summarize(most=6)).failed_runs == Count(6)
