"""The cache of an issuer's public keys, while the issuer is slow."""

import asyncio
from collections.abc import Mapping

import attrs
import pytest

from orchestrator.core.errors import TemporaryError
from orchestrator.intake.auth_methods.key_documents import KeyCache, KeyDocuments
from orchestrator.testing import ManualClock


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

    async def fetch(self, _: KeyDocuments, __: str, ___: Mapping[str, str]) -> Mapping[str, str]:
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
    """While the keys are fetched for another request, with an id that anybody may invent."""
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
    """Reads are cancelled at their deadline: the next request doesn't begin to wait from anew."""
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
