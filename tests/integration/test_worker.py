"""Worker processes at a real queue: killed, drained, and fed with poison messages among the good
ones."""

import json
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrator.testing import envelope
from tests.aws import aws_session
from tests.integration.processes import Process, World, open_world, start_of, until

#: `make soak` sends thousands.
MESSAGES = int(os.environ.get("SOAK_MESSAGES", "200"))
POISON = ("", "nonsense", "[]", "{}", '{"saas-orchestrator": {}}')


class Queue:
    """The queue as its senders see it."""

    def __init__(self, client: Any, url: str) -> None:
        self.client, self.url = client, url

    async def send(self, *texts: str) -> None:
        for start in range(0, len(texts), 10):
            entries = [
                {"Id": str(number), "MessageBody": text or " "}
                for number, text in enumerate(texts[start : start + 10])
            ]
            answer = await self.client.send_message_batch(QueueUrl=self.url, Entries=entries)
            assert not answer.get("Failed")

    async def count(self) -> int:
        """The number of messages that are not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


@asynccontextmanager
async def open_queue(world: World) -> AsyncIterator[Queue]:
    session = aws_session()
    async with session.client("sqs", endpoint_url=world.aws.endpoint_url) as client:
        made = await client.create_queue(QueueName="events")
        yield Queue(client, made["QueueUrl"])


def queued(queue: Queue, **settings: Any) -> dict[str, Any]:
    return {"intake_queue_url": queue.url, **settings}


def request(tenant: str) -> str:
    """The message that EventBridge puts into the queue."""
    detail = {"tenant": {"id": tenant}, "planConfig": {"tier": "BASIC"}}
    return json.dumps(envelope("TENANT_PROVISIONING", detail, event_id=f"event-{tenant}"))


async def counted(world: World, worker: Process, what: str) -> float:
    """The value of one of a worker's own metrics."""
    async with world.http.get(f"{worker.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    (line,) = (line for line in lines if line.startswith(f"orchestrator_queue_{what} "))
    return float(line.split()[1])


async def states(world: World, process: Process, *tenants: str) -> list[str]:
    found = [await world.get(process, f"/tenants/{tenant}") for tenant in tenants]
    return [one.get("state", "unseen") for one in found]


async def test_a_service_fills_the_queue_and_a_worker_empties_it(world: World) -> None:
    """An event is answered 202 and shown as queued, and a worker handles it: one build."""
    async with open_queue(world) as queue:
        service = await world.serve(**queued(queue, intake_mode="queue"))
        answer = await world.provision(service, "t-1")
        assert answer.status == 202
        (run,) = await world.runs(service, "t-1")
        assert run["status"] == "queued"
        await world.work(**queued(queue))

        async def is_done() -> bool:
            (run,) = await world.runs(service, "t-1")
            return bool(run["status"] == "succeeded")

        await until(is_done)
        assert len(world.builds("t-1")) == 1


async def test_a_worker_that_is_killed_in_mid_message(world: World) -> None:
    """After a worker was killed before its start was answered, another one finds the build and
    starts no second."""
    async with open_queue(world) as queue:
        service = await world.serve(**queued(queue))
        first = await world.work(**queued(queue, intake_visibility_s=2))
        stop = world.codebuild.hold_answer(start_of("t-1"))
        await queue.send(request("t-1"))
        await stop.reached.wait()
        await first.kill()
        # The sweep resumes the dead worker's run once its lease has expired.
        await world.work(**queued(queue, intake_visibility_s=2, operations_reconcile_every_s=1))

        async def is_done() -> bool:
            runs = await world.runs(service, "t-1")
            return [run["status"] for run in runs] == ["succeeded"]

        await until(is_done)
        assert len(world.builds("t-1")) == 1

        async def is_empty() -> bool:
            return await queue.count() == 0

        await until(is_empty)


async def test_a_handler_that_outlasts_the_visibility_timeout(world: World) -> None:
    """A message stays hidden while it is in progress, so that no other worker receives it."""
    async with open_queue(world) as queue:
        service = await world.serve(**queued(queue))
        await world.work(**queued(queue, intake_visibility_s=1, ledger_lease_s=60))
        other = await world.work(**queued(queue, intake_visibility_s=1, ledger_lease_s=60))
        stop = world.codebuild.hold_answer(start_of("t-1"))
        await queue.send(request("t-1"))
        await stop.reached.wait()
        # Another message takes longer than that timeout, from its sending to its end.
        for number in range(2, 5):
            await queue.send(request(f"t-{number}"))

            async def is_provisioning(tenant: str = f"t-{number}") -> bool:
                return await states(world, service, tenant) == ["provisioning"]

            await until(is_provisioning)
        await stop.release()

        async def is_empty() -> bool:
            return await queue.count() == 0

        await until(is_empty)
        (run,) = await world.runs(service, "t-1")
        assert (run["status"], run["attempt"]) == ("succeeded", 1)
        assert other.child.returncode is None


async def test_sigterm_lets_a_worker_finish_what_it_has(world: World) -> None:
    """On SIGTERM a worker finishes its message and exits 0."""
    async with open_queue(world) as queue:
        service = await world.serve(**queued(queue))
        worker = await world.work(**queued(queue))
        stop = world.codebuild.hold_answer(start_of("t-1"))
        await queue.send(request("t-1"))
        await stop.reached.wait()
        worker.terminate()

        async def is_draining() -> bool:
            return not await world.is_ready(worker)

        await until(is_draining)
        await stop.release()
        assert await worker.child.wait() == 0
        assert await queue.count() == 0
        assert await states(world, service, "t-1") == ["provisioning"]


async def test_many_messages_with_poison_among_them(ministack: str, tmp_path: Path) -> None:
    """Three workers make one build of each event, sent twice, and leave the poison messages; by
    their own metrics no message was handled less often than it was sent."""
    tenants = [f"t-{number}" for number in range(MESSAGES // 2)]
    async with open_world(tmp_path, aws_url=ministack) as world, open_queue(world) as queue:
        texts = [*map(request, tenants), *map(request, tenants)]
        shuffled = random.Random(6).sample([*texts, *POISON], len(texts) + len(POISON))  # noqa: S311
        workers = [await world.work(**queued(queue)) for _ in range(3)]
        await queue.send(*shuffled)

        async def is_left_to_the_poison() -> bool:
            return await queue.count() == len(POISON)

        await until(is_left_to_the_poison, patience_s=60 + MESSAGES)
        handled = [await counted(world, worker, "messages_handled_total") for worker in workers]
        assert sum(handled) >= len(texts)
        assert all(handled)
        assert sum([await counted(world, one, "messages_kept_total") for one in workers]) > 0
        # Runs that were postponed on a busy machine are resumed by the sweep, not by the queue.
        await world.serve(**queued(queue, operations_reconcile_every_s=5))

        async def all_are_started() -> bool:
            return len(world.aws.codebuild.builds) >= len(tenants)

        await until(all_are_started, patience_s=60 + MESSAGES)
        builds = [str(build.overrides) for build in world.aws.codebuild.builds.values()]
        started = Counter(tenant for text in builds for tenant in re.findall(r'"(t-\d+)"', text))
        assert started == Counter(tenants)
        for worker in workers:
            assert worker.child.returncode is None
            assert await world.is_ready(worker)
