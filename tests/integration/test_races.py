"""Three service processes and one ledger: each event is delivered many times at once, and makes one
build.

The ledger is on Amazon's own engine, behind a proxy that makes transactions conflict and loses
answers. SOAK_OPERATIONS is how many operations there are.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import attrs
import pytest

from orchestrator.embedded import Fault
from tests.dynamodb_local.proxy import conflict, open_proxy
from tests.integration.processes import (
    PATIENCE_S,
    Answer,
    Process,
    World,
    action,
    open_world,
    start_of,
    until,
)

OPERATIONS = int(os.environ.get("SOAK_OPERATIONS", "10"))
#: The share of the ledger's writes that fail.
FAULTS = 0.1
DUPLICATES = 50
#: Of how many operations all copies are sent at once, since each needs a connection.
AT_ONCE = 10
#: How long (seconds) the whole crowd may take to receive its first answers.
CROWD_S = max(6 * PATIENCE_S, 3.0 * OPERATIONS)
#: Senders retry at once until they receive 200, which takes far fewer rounds.
ROUNDS = 30


@attrs.frozen
class Sending:
    """One sender's copy of a request: half of them have one event id, half have each their own."""

    operation: int
    copy: int

    @property
    def tenant(self) -> str:
        return f"tenant-{self.operation}"

    @property
    def event_id(self) -> str:
        return f"event-{self.operation}-{self.copy if self.copy % 2 else 'same'}"

    @property
    def body(self) -> dict[str, object]:
        override = {"context": f"request-{self.operation}", "secret": "s3cret"}
        return {
            "tenant": {"id": self.tenant},
            "planConfig": {"tier": "BASIC"},
            "builderConfig": {"config": {"environmentOverride": override}},
        }


@pytest.fixture
async def world(tmp_path: Path, dynamodb_local: str) -> AsyncIterator[World]:
    async with (
        open_proxy(dynamodb_local) as proxy,
        open_world(tmp_path, aws_url=proxy.url) as opened,
    ):
        faults = (conflict(), Fault.answer_lost())
        proxy.inject_at_random("TransactWriteItems", FAULTS, *faults, seed=1)
        yield opened
        assert set(proxy.injected) == {"TransactionConflict", "answer_lost"}


@attrs.define
class Crowd:
    """Senders that send at once, each to one of the processes."""

    world: World
    processes: Sequence[Process]
    answer_counts: Counter[tuple[int, int | None]] = attrs.field(init=False, factory=Counter)
    """How often each operation's senders received which status."""
    _free: asyncio.Semaphore = attrs.field(
        init=False, factory=lambda: asyncio.Semaphore(AT_ONCE * DUPLICATES + OPERATIONS // 2)
    )
    """The slow openers' answers are held while the others are sent."""

    def statuses(self, operations: Iterable[int]) -> set[int | None]:
        return {status for operation, status in self.answer_counts if operation in operations}

    async def send(self, sendings: Sequence[Sending]) -> list[Sending]:
        """Send them; returns those that must be sent again."""
        done = await asyncio.gather(*map(self._send, sendings))
        return [one for one, is_done in zip(sendings, done, strict=True) if not is_done]

    async def _send(self, one: Sending) -> bool:
        process = self.processes[(one.operation + one.copy) % len(self.processes)]
        async with self._free:
            answer = await self.world.send(process, "TENANT_PROVISIONING", one.body, one.event_id)
        self.answer_counts[one.operation, answer.status] += 1
        if answer.status == 200:
            await self._assert_secured(one, answer)
        return answer.status == 200

    async def _assert_secured(self, one: Sending, answer: Answer) -> None:
        """After a 200 each process finds the build in the ledger at once."""
        assert answer.run is not None
        other = self.processes[one.copy % len(self.processes)]
        (build,) = self.world.builds(one.tenant)
        run = await self.world.get(other, answer.run)
        assert (run["job"] or {}).get("id") == build.id, run


@pytest.mark.timeout(600)
async def test_a_crowd_gets_one_build_for_each_operation(world: World) -> None:
    """Each event is sent 50 times at once, to three processes, until all senders receive 200, and
    makes one build; where the builder is slow, for every other operation, no 200 is sent before the
    job is recorded."""
    settings = {"ledger_lease_s": 8 * PATIENCE_S, "http_max_concurrency": 100}
    processes = await asyncio.gather(*(world.serve(**settings) for _ in range(3)))
    crowd = Crowd(world, processes)
    operations, slow = range(OPERATIONS), range(0, OPERATIONS, 2)
    answers = [world.codebuild.hold_answer(start_of(f"tenant-{number}")) for number in slow]
    first = asyncio.create_task(
        crowd.send(
            [
                Sending(number, copy)
                for start in range(0, OPERATIONS, AT_ONCE)
                for copy in range(DUPLICATES)
                for number in operations[start : start + AT_ONCE]
            ]
        )
    )

    async def only_slow_openers_wait() -> bool:
        if first.done():
            first.result()  # what it raised
        # After the deadline an opener receives 503, too.
        return crowd.answer_counts.total() >= OPERATIONS * DUPLICATES - len(slow)

    # Each request that waits writes its tenant, so that the requests of a crowd run one by one.
    await until(only_slow_openers_wait, patience_s=CROWD_S)
    # None: the queue of connections was full.
    assert crowd.statuses(slow) <= {429, 503, None}
    # An opener that was refused among so many starts its job only in a later round.
    released = asyncio.gather(*(answer.release() for answer in answers))
    waiting = await first
    for _ in range(ROUNDS):
        if not waiting:
            break
        waiting = await crowd.send(waiting)
    assert not waiting
    await released
    assert crowd.statuses(operations) <= {200, 429, 503, None}

    assert (await world.send(processes[0], "RECONCILE", {})).status == 200
    assert world.codebuild.count(action("StartBuild")) == OPERATIONS
    assert len(world.aws.codebuild.builds) == OPERATIONS
    for operation in operations:
        (build,) = world.builds(f"tenant-{operation}")
        runs = await world.runs(processes[1], f"tenant-{operation}")
        statuses = Counter(run["status"] for run in runs)
        assert statuses == {"succeeded": 1, "duplicate": DUPLICATES // 2}
        (opener,) = (run for run in runs if run["status"] == "succeeded")
        assert opener["job"]["id"] == build.id
        duplicates = {run["duplicateOf"] for run in runs if run is not opener}
        assert duplicates == {opener["runId"]}
