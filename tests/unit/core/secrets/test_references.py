"""References to secrets: what is stored before a start, and removed after it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator.adapters.clock import RandomIds
from orchestrator.adapters.codebuild.builder import environment_variables
from orchestrator.adapters.memory.secret_store import InMemorySecretStore
from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.secrets.redaction import SECRET_NAMES, Redactor
from orchestrator.core.secrets.references import SecretReferences, SecretRemover
from orchestrator.testing import SequentialIds
from tests.desk import ORDER, PROVISIONED, PROVISIONING, Desk

SECRET = {"DB_PASSWORD": "hush-hush"}


@pytest.fixture
def store() -> InMemorySecretStore:
    return InMemorySecretStore()


def secret_references(store: InMemorySecretStore, *patterns: str) -> SecretReferences:
    secrets = Redactor(patterns or SECRET_NAMES)
    return SecretReferences(store=store, ids=RandomIds(), secrets=secrets, prefix="/p")


async def sweep(desk: Desk, attempt: RunLease, *stores: InMemorySecretStore) -> None:
    for _ in range(2):
        desk.turn(60)
        await SecretRemover(stores).remove(desk.transactions, attempt.start_key)


@pytest.mark.parametrize("name", ["ORCHESTRATOR_RUN_ID", "TRACEPARENT"])
async def test_a_jobs_start_key_stays_readable(
    desk: Desk, store: InMemorySecretStore, name: str
) -> None:
    """It is passed as it is, whatever pattern matches it, so that the job can be found again."""
    attempt = await desk.claimed(PROVISIONING, "a")
    sealed = await secret_references(store, "*").replace_secrets(attempt, {name: "op-1", **SECRET})
    assert sealed[name] == "op-1"
    assert sealed["DB_PASSWORD"] != SECRET["DB_PASSWORD"]


@pytest.mark.parametrize(
    "value",
    [
        {"type": "SECRETS_MANAGER", "value": "name", "password": "hush-hush"},
        ' {"password": "hush-hush"}',
        ["hush-hush", {"token": "hush-hush"}],
    ],
)
async def test_a_secret_within_a_variable_is_kept_with_it(
    desk: Desk, store: InMemorySecretStore, value: Any
) -> None:
    """JSON text with a secret, and what only looks like a reference, is stored in the store."""
    attempt = await desk.claimed(PROVISIONING, "a")
    sealed: Mapping[str, Any] = await secret_references(store).replace_secrets(
        attempt, {"DATABASE": value}
    )
    assert "hush-hush" not in str(environment_variables(sealed))
    assert "hush-hush" in str(store.kept)


@pytest.mark.parametrize("chosen", [[InMemorySecretStore("SECRETS_MANAGER")], []])
async def test_secrets_of_a_former_store_are_removed_from_it(
    desk: Desk, chosen: Sequence[InMemorySecretStore]
) -> None:
    """The setting was changed while the job was under way."""
    before = InMemorySecretStore("PARAMETER_STORE")
    attempt = await desk.claimed(PROVISIONING, "a")
    await secret_references(before).replace_secrets(attempt, SECRET)
    await desk.finish(attempt, desk.job("b-1"))
    await desk.end(PROVISIONED, "o", job="b-1")
    await sweep(desk, attempt, before, *chosen)
    assert before.kept == {}


async def test_one_start_has_its_secrets_in_one_store(desk: Desk) -> None:
    """They are removed together; so the start waits until the setting is as it was."""
    before, chosen = InMemorySecretStore("PARAMETER_STORE"), InMemorySecretStore()
    attempt = await desk.claimed(PROVISIONING, "a")
    await secret_references(before).replace_secrets(attempt, SECRET)
    with pytest.raises(TemporaryError, match=r"in the PARAMETER_STORE: set secrets\.store back"):
        await secret_references(chosen).replace_secrets(attempt, SECRET)
    assert chosen.kept == {}


async def test_a_replay_leaves_the_job_before_its_secrets(
    desk: Desk, store: InMemorySecretStore
) -> None:
    """A job without a tenant may run beside the next one."""
    attempt = await desk.claimed(ORDER, "a")
    await secret_references(store).replace_secrets(attempt, SECRET)
    await desk.finish(attempt, desk.job("b-1"))
    again = await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)
    await secret_references(store).replace_secrets(again, SECRET)
    await desk.finish(again, desk.job("b-2"))
    await sweep(desk, attempt, store)
    assert len(store.kept) == 2
    desk.turn(desk.timings.deadline_s)
    await sweep(desk, attempt, store)
    assert len(store.kept) == 1


async def test_secrets_of_a_possible_start_are_kept(desk: Desk, store: InMemorySecretStore) -> None:
    """Its run has failed, and its job may still run: as long as a job may take."""
    attempt = await desk.claimed(ORDER, "a")
    await secret_references(store).replace_secrets(attempt, SECRET)
    await desk.fail(attempt, ends_without_job=False, possible_until=desk.clock.now())
    await sweep(desk, attempt, store)
    assert store.kept
    desk.turn(desk.timings.deadline_s)
    await sweep(desk, attempt, store)
    assert store.kept == {}


async def test_nothing_is_stored_any_more_once_one_has_failed(desk: Desk) -> None:
    """It might come after the removal of all the others, and stay for ever."""
    stored: list[str] = []
    ended: list[str] = []
    never = asyncio.Event()

    class Store(InMemorySecretStore):
        async def put(self, *, name: str, value: str) -> None:
            if name.endswith("A_PASSWORD"):
                raise TemporaryError("throttled")
            try:
                await never.wait()
                stored.append(name)
            finally:
                await asyncio.sleep(0)
                ended.append(value)

    attempt = await desk.claimed(PROVISIONING, "a")
    with pytest.raises(TemporaryError, match="throttled"):
        await secret_references(Store()).replace_secrets(
            attempt, {"A_PASSWORD": "1", "B_PASSWORD": "2"}
        )
    assert (stored, ended) == ([], ["2"])
    never.set()
    await asyncio.sleep(0)
    assert stored == []
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_secret_that_can_not_be_removed_stays_due(desk: Desk) -> None:
    """A secret that can't be removed is removed by a later sweep."""

    class Store(InMemorySecretStore):
        is_down = True

        async def remove(self, *, name: str) -> None:
            if self.is_down:
                raise TemporaryError("no store")
            await super().remove(name=name)

    store = Store()
    attempt = await desk.claimed(PROVISIONING, "a")
    await secret_references(store).replace_secrets(attempt, SECRET)
    await desk.fail(attempt)
    await sweep(desk, attempt, store)
    assert store.kept
    store.is_down = False
    await sweep(desk, attempt, store)
    assert store.kept == {}


async def test_no_name_can_be_guessed(desk: Desk, store: InMemorySecretStore) -> None:
    """Nothing that a sender knows says what an other's secret is called."""
    attempt = await desk.claimed(PROVISIONING, "a")
    ids = SequentialIds()
    keeping = SecretReferences(store=store, ids=ids, prefix="/p")
    sealed = await keeping.replace_secrets(attempt, SECRET)
    assert sealed["DB_PASSWORD"]["value"] == f"/p/id-1/{attempt.start_key}/1/DB_PASSWORD"
    assert await keeping.replace_secrets(attempt, SECRET) == sealed
    assert len(store.kept) == 1
