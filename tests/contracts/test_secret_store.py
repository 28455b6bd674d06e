"""What every store of secrets does: one suite for the port, run against each implementation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import attrs
import pytest
from aiobotocore.config import AioConfig

from orchestrator import TemporaryError
from orchestrator.adapters.memory.secret_store import InMemorySecretStore
from orchestrator.adapters.parameter_store.secret_store import ParameterStore
from orchestrator.adapters.secrets_manager.secret_store import SecretsManagerStore
from orchestrator.core.checkable import Checkable, ReadableBy
from orchestrator.core.errors import SecretNotFound
from orchestrator.core.secrets.secret_store import SecretStore
from tests.aws import aws_session

_AWS = {
    "SECRETS_MANAGER": ("secretsmanager", SecretsManagerStore),
    "PARAMETER_STORE": ("ssm", ParameterStore),
}


@attrs.frozen
class Bench:
    store: SecretStore
    prefix: str = attrs.field(factory=lambda: f"/tests/{uuid4()}")

    def name(self, last: str = "DB_PASSWORD") -> str:
        return f"{self.prefix}/{'0' * 40}-1/1/{last}"


@attrs.frozen
class Client:
    aws: Any

    async def opened(self) -> Any:
        return self.aws


@asynccontextmanager
async def open_client(url: str, service: str = "secretsmanager") -> AsyncIterator[Client]:
    session = aws_session()
    async with session.client(service, endpoint_url=url) as client:
        yield Client(client)


@pytest.fixture(params=["memory", *_AWS])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(InMemorySecretStore())
        return
    url = request.getfixturevalue("ministack")
    service, kind = _AWS[request.param]
    async with open_client(url, service) as client:
        yield Bench(kind(client.opened, prefix="/tests"))


async def test_a_secret_that_is_put_can_be_read(bench: Bench) -> None:
    """Any value is read as it is; a second put replaces it, as a repeated start does."""
    for value in ("hush-hush", '{"password": "é\\n"}', "x" * 5000):
        await bench.store.put(name=bench.name(), value=value)
        assert await bench.store.read(name=bench.name()) == value
    await bench.store.put(name=bench.name("other"), value="another")
    assert await bench.store.read(name=bench.name()) == "x" * 5000


async def test_a_removed_secret_is_unknown(bench: Bench) -> None:
    """It is unknown, also if it is removed twice or was never stored."""
    await bench.store.put(name=bench.name(), value="hush-hush")
    await bench.store.put(name=bench.name("other"), value="another")
    for _ in range(2):
        await bench.store.remove(name=bench.name())
    await bench.store.remove(name=bench.name("nothing"))
    with pytest.raises(SecretNotFound) as missing:
        await bench.store.read(name=bench.name())
    assert bench.name() in str(missing.value)
    assert await bench.store.read(name=bench.name("other")) == "another"


async def test_its_kind_is_one_that_builders_know(bench: Bench) -> None:
    """Its reference type is a type of CodeBuild's environment variables."""
    assert bench.store.reference_type in _AWS


async def test_the_store_can_be_checked(bench: Bench) -> None:
    """A check succeeds, and leaves nothing behind."""
    if isinstance(bench.store, InMemorySecretStore):
        return
    assert isinstance(bench.store, Checkable)
    await bench.store.check()
    assert isinstance(bench.store, ReadableBy)
    assert "/tests/*" in bench.store.resource


@pytest.mark.parametrize("kind", _AWS)
async def test_a_store_out_of_reach_is_temporary(kind: str) -> None:
    """The error is temporary, and contains no value."""
    session = aws_session()
    service, store_of = _AWS[kind]
    once = AioConfig(retries={"total_max_attempts": 1})
    async with session.client(service, endpoint_url="http://127.0.0.1:9", config=once) as client:

        async def opened() -> Any:
            return client

        store: SecretStore = store_of(opened, prefix="/tests")
        with pytest.raises(TemporaryError) as down:
            await store.put(name="/tests/a", value="hush-hush")
    assert "hush-hush" not in str(down.value)


async def test_a_binary_secret_is_no_bug(ministack: str) -> None:
    """It was stored in a form that can't be used; the error says how to store it."""
    session = aws_session()
    async with session.client("secretsmanager", endpoint_url=ministack) as client:
        await client.create_secret(Name="/tests/binary", SecretBinary=b"x")

        async def opened() -> Any:
            return client

        store = SecretsManagerStore(opened, prefix="/tests")
        with pytest.raises(TemporaryError, match="'/tests/binary' is binary: store it as text"):
            await store.read(name="/tests/binary")


def test_reading_one_takes_its_own_permission() -> None:
    """A name becomes the ARN that it has, with what AWS adds to it; an ARN is one already."""

    async def unused() -> Any:
        raise AssertionError

    kept = SecretsManagerStore(unused, prefix="/p")
    listed = ParameterStore(unused, prefix="/p")
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf"
    assert kept.permission("a/b").resource == "arn:aws:secretsmanager:*:*:secret:a/b-??????"
    assert kept.permission(arn).resource == arn
    assert listed.permission("/a/b").resource == "arn:aws:ssm:*:*:parameter/a/b"
    assert listed.permission("a").resource == "arn:aws:ssm:*:*:parameter/a"


async def test_a_secret_that_is_marked_for_deletion_is_unknown(ministack: str) -> None:
    """Secrets Manager's console deletes so, and keeps the value for weeks."""
    async with open_client(ministack) as client:
        store, name = SecretsManagerStore(client.opened, prefix="/tests"), f"/tests/{uuid4()}"
        await store.put(name=name, value="hush-hush")
        await client.aws.delete_secret(SecretId=name)
        with pytest.raises(SecretNotFound):
            await store.read(name=name)


async def test_the_same_value_again_is_no_new_version(ministack: str) -> None:
    """A start that waits is made again for days, and Secrets Manager takes 100 versions a day."""
    async with open_client(ministack) as client:
        store, name = SecretsManagerStore(client.opened, prefix="/tests"), f"/tests/{uuid4()}"
        versions = []
        for value in ("hush-hush", "hush-hush", "another"):
            await store.put(name=name, value=value)
            answer = await client.aws.get_secret_value(SecretId=name)
            versions.append(answer["VersionId"])
        assert versions[0] == versions[1] != versions[2]
