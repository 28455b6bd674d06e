"""The service's own credentials: as they are, or read from where they are kept."""

import asyncio

import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.memory.secret_store import InMemorySecretStore
from orchestrator.adapters.secret_resolver import StoredSecretResolver
from orchestrator.core.errors import PermanentError, SecretBlank, TemporaryError
from orchestrator.testing import ManualClock


class Store(InMemorySecretStore):
    is_down = False
    refusal: PermanentError | None = None
    reads = 0

    async def read(self, *, name: str) -> str:
        self.reads += 1
        if self.refusal is not None:
            raise self.refusal
        if self.is_down:
            raise TemporaryError("no store")
        return await super().read(name=name)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def credentials(store: Store, clock: ManualClock) -> StoredSecretResolver:
    return StoredSecretResolver({"ssm": store}, clock)


@pytest.mark.parametrize("value", ["", "key-1", "user:password", "secretsmanager", ":a", "SSM:a"])
async def test_a_value_that_is_no_reference_is_the_credential(
    credentials: StoredSecretResolver, store: Store, value: str
) -> None:
    """A value that is no reference is used as it is, also with a colon in it."""
    assert await credentials.resolve(value) == value
    assert store.reads == 0


async def test_a_reference_is_read_anew_each_minute(
    credentials: StoredSecretResolver, store: Store, clock: ManualClock
) -> None:
    """A rotated secret is in use a minute later, and the store isn't queried at each request."""
    await store.put(name="/a/b:c", value="old")
    assert [await credentials.resolve("ssm:/a/b:c") for _ in range(3)] == ["old"] * 3
    assert store.reads == 1
    await store.put(name="/a/b:c", value="new")
    clock.turn(59)
    assert await credentials.resolve("ssm:/a/b:c") == "old"
    clock.turn(1)
    assert await credentials.resolve("ssm:/a/b:c") == "new"


async def test_the_last_value_counts_while_the_store_is_down(
    credentials: StoredSecretResolver, store: Store, clock: ManualClock
) -> None:
    """The last value stays, and the store isn't queried at each request then, either."""
    await store.put(name="a", value="old")
    await credentials.resolve("ssm:a")
    store.is_down = True
    clock.turn(60)
    assert [await credentials.resolve("ssm:a") for _ in range(3)] == ["old"] * 3
    assert store.reads == 2


async def test_a_reference_that_was_never_read_is_temporary(
    credentials: StoredSecretResolver, store: Store, clock: ManualClock
) -> None:
    """The error names it, and its store; soon after it exists it is used."""
    with pytest.raises(TemporaryError, match="ssm:a can't be read: There is no secret 'a' in memo"):
        await credentials.resolve("ssm:a")
    await store.put(name="a", value="new")
    clock.turn(5)
    assert await credentials.resolve("ssm:a") == "new"


async def test_a_secret_store_that_fails_is_queried_once(
    credentials: StoredSecretResolver, store: Store, clock: ManualClock
) -> None:
    """Concurrent and soon following reads get the first one's error."""
    store.is_down = True
    asked = (credentials.resolve("ssm:a") for _ in range(20))
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, TemporaryError) for one in errors)
    assert store.reads == 1
    clock.turn(4)
    with pytest.raises(TemporaryError):
        await credentials.resolve("ssm:a")
    assert store.reads == 1
    clock.turn(1)
    store.is_down = False
    await store.put(name="a", value="new")
    assert await credentials.resolve("ssm:a") == "new"


async def test_a_deleted_secret_is_no_longer_valid(
    credentials: StoredSecretResolver, store: Store, clock: ManualClock
) -> None:
    """A secret that was deleted stops being used, which is how a leaked key is revoked."""
    await store.put(name="a", value="known")
    assert await credentials.resolve("ssm:a") == "known"
    await store.remove(name="a")
    clock.turn(60)
    for _ in range(2):
        with pytest.raises(TemporaryError):
            await credentials.resolve("ssm:a")
        clock.turn(5)


async def test_a_denied_secret_is_temporary_too(
    credentials: StoredSecretResolver, store: Store
) -> None:
    """The store's refusal is a temporary error, since no request that comes in is its cause."""
    store.refusal = PermanentError("no such name can be")
    with pytest.raises(TemporaryError, match="no such name can be"):
        await credentials.resolve("ssm:a")


async def test_white_space_around_a_credential_is_not_part_of_it(
    credentials: StoredSecretResolver, store: Store
) -> None:
    """Many tools end a secret with a line break."""
    await store.put(name="a", value=" the key\r\n")
    assert await credentials.resolve("ssm:a") == "the key"


async def test_a_blank_credential_is_invalid(
    credentials: StoredSecretResolver, store: Store, clock: ManualClock
) -> None:
    """It is logged once, and replaces the last one."""
    await store.put(name="a", value="key")
    assert await credentials.resolve("ssm:a") == "key"
    with capture_logs() as logs:
        for blank in ("", " \n"):
            await store.put(name="a", value=blank)
            clock.turn(60)
            with pytest.raises(SecretBlank, match="The credential ssm:a is empty: store it there"):
                await credentials.resolve("ssm:a")
        store.is_down = True
        clock.turn(60)
        with pytest.raises(SecretBlank):
            await credentials.resolve("ssm:a")
    assert [line["event"] for line in logs] == ["credential is empty", "credential not read"]
    store.is_down = False
    await store.put(name="a", value="new")
    clock.turn(5)
    assert await credentials.resolve("ssm:a") == "new"


class SlowStore(Store):
    """It answers while `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.asked = asyncio.Event(), asyncio.Semaphore(0)

    async def read(self, *, name: str) -> str:
        self.asked.release()
        await self.answers.wait()
        return await super().read(name=name)


async def test_a_known_value_does_not_wait_for_a_slow_store(clock: ManualClock) -> None:
    """It is used while it is read again for another request; a read that was cancelled is not
    repeated at once."""
    store = SlowStore()
    credentials = StoredSecretResolver({"ssm": store}, clock)
    await store.put(name="a", value="old")
    store.answers.set()
    assert await credentials.resolve("ssm:a") == "old"
    await store.asked.acquire()
    store.answers.clear()
    clock.turn(60)
    reading = asyncio.create_task(credentials.resolve("ssm:a"))
    await store.asked.acquire()
    assert await credentials.resolve("ssm:a") == "old"
    reading.cancel()
    await asyncio.wait({reading})
    assert await credentials.resolve("ssm:a") == "old"
