"""With a store, builds get references to secrets, which are removed once all is over."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import attrs
import pytest
from aiohttp import TraceConfig

from orchestrator import Extension, Settings
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import ApiKey, Auth, Callback, Secrets
from orchestrator.testing import InMemoryBuilder, ManualClock, provisioning_event
from tests.acceptance.answers import only_build
from tests.acceptance.witness import Witness
from tests.aws import aws_session
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane

CONTEXT = "2f7c5d0a-53a1-4c77-9a3e-1d7f5c0b9e42"
REFERENCE = {"type": "PARAMETER_STORE", "value": "/theirs/db"}
OVERRIDE = {
    "secret": SECRET,
    "context": CONTEXT,
    "CLIENT_SECRET": "hush-2",
    "DATABASE": {"password": "hush-3", "host": "db"},
    "DB_PASSWORD": REFERENCE,
    "EMPTY_TOKEN": "",
    "ACCESS_TOKEN_EXPIRATION": "7200",
    "TOKEN_COUNT": 12,
}
SECRETS = (SECRET, "hush-2", "hush-3")
KINDS = {"secretsmanager": "SECRETS_MANAGER", "ssm": "PARAMETER_STORE"}
Kind = Literal["secretsmanager", "ssm"]


@attrs.frozen
class Store:
    """The store as the test sees it, which is empty but for the service's secrets."""

    kind: Kind
    client: Any

    async def kept(self) -> dict[str, str]:
        if self.kind == "ssm":
            page = await self.client.get_parameters_by_path(
                Path="/orchestrator", Recursive=True, WithDecryption=True
            )
            return {one["Name"]: one["Value"] for one in page["Parameters"]}
        listed = await self.client.list_secrets()
        names = [one["Name"] for one in listed["SecretList"] if "DeletedDate" not in one]
        return {
            name: (await self.client.get_secret_value(SecretId=name))["SecretString"]
            for name in names
        }

    async def put(self, name: str, value: str) -> None:
        if self.kind == "ssm":
            await self.client.put_parameter(
                Name=name, Value=value, Type="SecureString", Overwrite=True
            )
            return
        try:
            await self.client.create_secret(Name=name, SecretString=value)
        except self.client.exceptions.ResourceExistsException:
            await self.client.put_secret_value(SecretId=name, SecretString=value)

    async def remove(self, name: str) -> None:
        if self.kind == "ssm":
            await self.client.delete_parameter(Name=name)
        else:
            await self.client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


@pytest.fixture(params=KINDS)
async def store(
    request: pytest.FixtureRequest,
    ministack: str,
    codebuild: CodeBuildStandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Store]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", ministack)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", ministack)
    session = aws_session()
    async with session.client(request.param, endpoint_url=ministack) as client:
        store = Store(request.param, client)
        yield store
        assert await store.kept() == {}


@pytest.fixture
def trace_configs(witness: Witness) -> list[TraceConfig]:
    return [witness.ears]


@pytest.fixture
def stored(
    settings: Settings,
    store: Store,
    control_plane: ControlPlane,
    codebuild: CodeBuildStandIn,
    witness: Witness,
) -> Iterator[Settings]:
    """Settings with a store for secrets, under which a provisioning's end is reported.

    After the test no request to the builder, no answer and no line of the log has a secret.
    """
    yield attrs.evolve(
        settings,
        secrets=Secrets(store=store.kind),
        aws=attrs.evolve(settings.aws, read_timeout_s=10.0),
        callback=Callback(url=control_plane.url, after="provisioning", timeout_s=30),
    )
    everything = {
        "answers": "\n".join(witness.answers),
        "log": witness.log.getvalue(),
        "requests": json.dumps(codebuild.calls),
    }
    assert all(everything.values())
    shown = {name for name, text in everything.items() for one in SECRETS if one in text}
    assert shown == set()


async def provision(service: Client, tenant: str, status: int = 200) -> None:
    event = provisioning_event(tenant_id=tenant, event_id=tenant, override=OVERRIDE)
    answer = await service.post("/events", json=event)
    assert answer.status == status, await answer.text()


async def sweep(
    service: Client, clock: ManualClock, control_plane: ControlPlane | None = None
) -> None:
    clock.turn(61)
    if control_plane is not None:
        await control_plane.turn_clock(clock.now())
    assert (await service.post("/events/RECONCILE", json={})).status == 200


def requests(codebuild: CodeBuildStandIn) -> list[dict[str, Any]]:
    return [parameters for action, parameters in codebuild.calls if action == "StartBuild"]


async def test_a_build_is_given_references(
    start_service: StartService,
    stored: Settings,
    store: Store,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    clock: ManualClock,
) -> None:
    """A build gets references to its secrets, which are removed once its operation has been
    reported."""
    await control_plane.expect("t-1", context=CONTEXT)
    await control_plane.fail(503)
    service = await start_service(stored)
    await provision(service, "t-1")
    given = {one["name"]: one for one in only_build(codebuild).overrides}
    kept = await store.kept()
    for name, value in (
        ("secret", SECRET),
        ("CLIENT_SECRET", "hush-2"),
        ("DATABASE", '{"password":"hush-3","host":"db"}'),
    ):
        assert given[name]["type"] == KINDS[store.kind]
        assert given[name]["value"].startswith("/orchestrator/")
        assert kept[given[name]["value"]] == value
    assert len(kept) == 3

    await sweep(service, clock, control_plane)
    codebuild.finish(only_build(codebuild).id)
    await sweep(service, clock, control_plane)
    assert len(await store.kept()) == 3, "the report was not accepted yet"
    for _ in range(2):
        await sweep(service, clock, control_plane)
    (report,) = await control_plane.accepted()
    assert report["initiatorId"] == "t-1"
    assert await store.kept() == {}


async def test_values_that_are_no_secrets_are_passed_through(
    start_service: StartService, stored: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The control plane's own references, numbers, expirations and empty values are passed as they
    are."""
    service = await start_service(attrs.evolve(stored, callback=Callback()))
    await provision(service, "t-2")
    given = {one["name"]: (one["type"], one["value"]) for one in only_build(codebuild).overrides}
    assert given["DB_PASSWORD"] == ("PARAMETER_STORE", "/theirs/db")
    for name, value in (
        ("EMPTY_TOKEN", ""),
        ("TOKEN_COUNT", "12"),
        ("ACCESS_TOKEN_EXPIRATION", "7200"),
        ("context", CONTEXT),
    ):
        assert given[name] == ("PLAINTEXT", value)
    codebuild.finish(only_build(codebuild).id)
    for _ in range(2):
        await sweep(service, clock)


async def test_a_start_that_is_repeated_has_the_same_references(
    start_service: StartService, stored: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A start that is repeated, after a quota or a lost answer, is the same request for CodeBuild,
    and makes one build."""
    codebuild.inject(
        "StartBuild",
        Fault.error("AccountLimitExceededException"),
        Fault.answer_lost(),
    )
    service = await start_service(attrs.evolve(stored, callback=Callback()))
    await provision(service, "t-3", 503)
    for _ in range(3):
        await sweep(service, clock)
    first, *others = requests(codebuild)
    assert others
    assert all(one == first for one in others)
    codebuild.finish(only_build(codebuild).id)
    for _ in range(2):
        await sweep(service, clock)


async def test_a_start_that_is_refused_leaves_nothing(
    start_service: StartService,
    stored: Settings,
    store: Store,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """The secrets of a refused start are removed, and the next start has names of its own."""
    codebuild.inject("StartBuild", Fault.error("InvalidInputException"))
    service = await start_service(attrs.evolve(stored, callback=Callback()))
    await provision(service, "t-4", 422)
    old = set(await store.kept())
    assert len(old) == 3
    await provision(service, "t-4")
    new = set(await store.kept()) - old
    assert len(new) == 3
    await sweep(service, clock)
    assert set(await store.kept()) == new
    codebuild.finish(only_build(codebuild).id)
    for _ in range(2):
        await sweep(service, clock)


async def test_other_builders_are_given_references_too(
    start_service: StartService, stored: Settings, clock: ManualClock
) -> None:
    """Other builders get references as objects."""
    builder = InMemoryBuilder("CODE_BUILD")
    service = await start_service(
        attrs.evolve(stored, callback=Callback()),
        extension=Extension(builders={"CODE_BUILD": builder}),
    )
    await provision(service, "t-5")
    (started,) = builder.started
    assert started.params["CLIENT_SECRET"]["value"].endswith("/CLIENT_SECRET")
    assert not [value for value in started.params.values() if "hush" in str(value)]
    builder.finish(started.job.id)
    for _ in range(2):
        await sweep(service, clock)


async def test_nothing_is_started_in_plain_text_while_the_store_is_down(
    start_service: StartService,
    stored: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the store is down a request is 503 and starts nothing; its run is retried."""
    for service in ("SECRETS_MANAGER", "SSM"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "http://127.0.0.1:9")
    down = await start_service(attrs.evolve(stored, callback=Callback()))
    await provision(down, "t-6", 503)
    assert requests(codebuild) == []
    (run,) = (await (await down.get("/runs")).json())["items"]
    assert run["status"] == "retry"
    assert "hush" not in json.dumps(run)


async def test_without_a_store_secrets_are_passed_as_they_are(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """Without a store, which is the default, secrets are passed as they are, as arc-saas does."""
    await provision(service, "t-7")
    given = {one["name"]: one for one in only_build(codebuild).overrides}
    assert (given["CLIENT_SECRET"]["type"], given["CLIENT_SECRET"]["value"]) == (
        "PLAINTEXT",
        "hush-2",
    )


async def test_an_api_key_may_be_kept_there(
    start_service: StartService, settings: Settings, store: Store, clock: ManualClock
) -> None:
    """An API key may be kept in the store and rotated: a minute later the new one is valid, and the
    old one isn't."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("plain", f"{store.kind}:/the/key")))
    patient = attrs.evolve(settings.aws, read_timeout_s=10.0)
    service = await start_service(attrs.evolve(settings, auth=auth, aws=patient))

    async def status(key: str) -> int:
        answer = await service.get("/runs", headers={"x-api-key": key})
        return answer.status

    assert [await status("plain"), await status("first")] == [200, 503], "there is none yet"
    for key, old in (("first", "other"), ("second", "first")):
        await store.put("/the/key", key)
        clock.turn(60)
        assert [await status(key), await status(old), await status("plain")] == [200, 401, 200]
    await store.remove("/the/key")
