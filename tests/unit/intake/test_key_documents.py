"""The cache of an issuer's public keys, while the issuer is slow."""

import asyncio
from collections.abc import Mapping

import attrs
import pytest

from orchestrator.core.errors import TemporaryError
from orchestrator.intake.auth_methods.key_documents import (
    MOST_FETCHES,
    MOST_IDS,
    KeyCache,
    KeyDocuments,
    KeysById,
)
from orchestrator.testing import ManualClock
from tests.desk import let_others_work


class NoDocuments:
    async def fetch(self, url: str) -> bytes:
        raise NotImplementedError(url)


DOCUMENTS = NoDocuments()


@attrs.define
class SlowIssuer:
    """It answers with `keys` while `answers` is set."""

    keys: Mapping[str, str]
    answers: asyncio.Event = attrs.field(factory=asyncio.Event)
    asked: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(0))
    times: int = 0

    async def fetch(self, _: KeyDocuments) -> Mapping[str, str]:
        self.times += 1
        self.asked.release()
        await self.answers.wait()
        return self.keys


@pytest.fixture
def issuer() -> SlowIssuer:
    return SlowIssuer({"known": "K"})


@pytest.fixture
async def cache(issuer: SlowIssuer, clock: ManualClock) -> KeyCache[str]:
    """It has the key `known`, and the issuer has become slow."""
    cache = KeyCache(issuer.fetch, clock)
    issuer.answers.set()
    assert await cache.find(DOCUMENTS, "known") == "K"
    await issuer.asked.acquire()
    issuer.answers.clear()
    return cache


@pytest.mark.parametrize("later_s", [60, 3600])
async def test_a_known_key_does_not_wait_for_a_slow_issuer(
    cache: KeyCache[str], issuer: SlowIssuer, clock: ManualClock, later_s: int
) -> None:
    """It is found while the keys are fetched for an id that any sender may have invented."""
    clock.turn(later_s)
    waiting = asyncio.create_task(cache.find(DOCUMENTS, "invented"))
    await issuer.asked.acquire()
    known = asyncio.create_task(cache.find(DOCUMENTS, "known"))
    await asyncio.wait({known, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert known.done()
    assert known.result() == "K"
    issuer.answers.set()
    assert await waiting is None


async def test_a_fetch_that_was_cancelled_is_not_repeated_at_once(
    cache: KeyCache[str], issuer: SlowIssuer, clock: ManualClock
) -> None:
    """Reads are cancelled at their deadline: the next request doesn't wait anew."""
    clock.turn(60)
    waiting = asyncio.create_task(cache.find(DOCUMENTS, "new"))
    await issuer.asked.acquire()
    waiting.cancel()
    await asyncio.wait({waiting})
    with pytest.raises(TemporaryError):
        await cache.find(DOCUMENTS, "new")
    assert issuer.times == 2
    issuer.keys = {"new": "N"}
    issuer.answers.set()
    clock.turn(5)
    assert await cache.find(DOCUMENTS, "new") == "N"


@attrs.define
class LoadBalancer:
    """It has a document for each key."""

    keys: dict[str, str] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)

    async def fetch(self, _: KeyDocuments, key_id: str) -> str:
        self.asked.append(key_id)
        if key_id not in self.keys:
            raise TemporaryError("the answer is 404")
        return self.keys[key_id]


async def ask_in_vain(keys: KeysById[str], key_id: str) -> None:
    with pytest.raises(TemporaryError):
        await keys.find(DOCUMENTS, key_id)


async def test_an_invented_id_delays_no_new_key(clock: ManualClock) -> None:
    """Each id has a pause of its own."""
    balancer = LoadBalancer({"new": "N"})
    keys = KeysById(balancer.fetch, clock)
    for _ in range(3):
        await ask_in_vain(keys, "invented")
    assert await keys.find(DOCUMENTS, "new") == "N"
    assert balancer.asked == ["invented", "new"]


async def test_invented_ids_make_so_many_requests_a_minute(clock: ManualClock) -> None:
    """A key that is known stays so meanwhile, and a new one is found a minute later."""
    balancer = LoadBalancer({"known": "K", "new": "N"})
    keys = KeysById(balancer.fetch, clock)
    assert await keys.find(DOCUMENTS, "known") == "K"
    for number in range(1000):
        await ask_in_vain(keys, f"invented-{number}")
    assert len(balancer.asked) == MOST_FETCHES
    await ask_in_vain(keys, "new")
    clock.turn(59)
    assert await keys.find(DOCUMENTS, "known") == "K"
    await ask_in_vain(keys, "invented-0")
    assert len(balancer.asked) == MOST_FETCHES
    clock.turn(1)
    assert await keys.find(DOCUMENTS, "new") == "N"


async def test_a_known_key_is_remembered_among_invented_ones(clock: ManualClock) -> None:
    """It is kept among the last ids, and fetched again once an hour has passed."""
    balancer = LoadBalancer({"known": "K"})
    keys = KeysById(balancer.fetch, clock)
    assert await keys.find(DOCUMENTS, "known") == "K"
    for number in range(3 * MOST_IDS):
        clock.turn(1)
        await ask_in_vain(keys, f"invented-{number}")
    assert len(keys.caches) == MOST_IDS
    assert await keys.find(DOCUMENTS, "known") == "K"
    assert balancer.asked.count("known") == 1
    clock.turn(3600)
    assert await keys.find(DOCUMENTS, "known") == "K"
    assert balancer.asked.count("known") == 2


async def test_a_new_key_does_not_wait_for_the_answer_to_an_invented_id(
    clock: ManualClock,
) -> None:
    """They are fetched side by side."""
    slow = asyncio.Event()

    async def fetch(_: KeyDocuments, key_id: str) -> str:
        if key_id != "new":
            await slow.wait()
        return key_id

    keys = KeysById(fetch, clock)
    waiting = asyncio.create_task(keys.find(DOCUMENTS, "invented"))
    new = asyncio.create_task(keys.find(DOCUMENTS, "new"))
    await asyncio.wait({waiting, new}, return_when=asyncio.FIRST_COMPLETED)
    assert (new.done(), waiting.done()) == (True, False)
    slow.set()
    assert await waiting == "invented"


async def test_a_key_on_its_way_is_shared_and_kept_among_invented_ids(clock: ManualClock) -> None:
    """One fetch serves both requests, even if invented ids have used up those of the minute."""
    arrived = asyncio.Event()
    fetched: list[str] = []

    async def fetch(_: KeyDocuments, key_id: str) -> str:
        fetched.append(key_id)
        if key_id != "new":
            raise TemporaryError("the answer is 404")
        await arrived.wait()
        return "N"

    keys = KeysById(fetch, clock)
    first = asyncio.create_task(keys.find(DOCUMENTS, "new"))
    await let_others_work()
    for number in range(MOST_FETCHES + MOST_IDS):
        await ask_in_vain(keys, f"invented-{number}")
    second = asyncio.create_task(keys.find(DOCUMENTS, "new"))
    await let_others_work()
    arrived.set()
    assert (await first, await second) == ("N", "N")
    assert await keys.find(DOCUMENTS, "new") == "N"
    assert fetched.count("new") == 1
