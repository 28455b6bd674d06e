"""A user's parts in place of the built-in ones, loaded by name through each entry point.

The loaded modules are in `extensions/`. A child process takes more than a second, so each
has one long test.
"""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
import structlog

from orchestrator import (
    REGISTRY,
    Extension,
    HandlerRegistry,
    PermanentError,
    RegistrationError,
    Settings,
    SettingsError,
    create_app,
    lambda_handler,
    open_orchestrator,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.handlers.extension import load_extension
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Builders, child_environment
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests import zygote
from tests.acceptance.answers import only_build
from tests.conftest import StartService
from tests.ledgers import IN_MEMORY, PATIENT, find_run

FOLDER = Path(__file__).parent / "extensions"


@attrs.frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


Ask = Callable[..., Awaitable[Answer]]
Enter = Callable[[str], Any]


class Context:
    """The context of a Lambda invocation."""

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


@pytest.fixture(autouse=True)
def users_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the user's folder importable, and restore the log afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    structlog.reset_defaults()


def asking(http: Any, base: str = "") -> Ask:
    """Send requests through an aiohttp client."""

    async def ask(
        method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        async with http.request(method, base + path, json=body, headers=headers) as answer:
            parsed = await answer.json(content_type=None)
            return Answer(answer.status, dict(answer.headers), parsed)

    return ask


@pytest.fixture(params=["serve", "lambda", "create_app"])
def enter(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, aiohttp_client: Any
) -> Enter:
    """Open one of the entry points over the extension of that name, and return the way to send
    requests to it."""

    @asynccontextmanager
    async def serve(extension: str) -> AsyncIterator[Ask]:
        process = await start_serve(extension)
        try:
            url = await listening(process)
            async with aiohttp.ClientSession() as http:
                yield asking(http, url)
        finally:
            process.terminate()
            await process.communicate()
        assert process.returncode == 0

    @asynccontextmanager
    async def in_lambda(extension: str) -> AsyncIterator[Ask]:
        monkeypatch.setenv("ORCHESTRATOR__EXTENSION", extension)
        monkeypatch.setenv("ORCHESTRATOR_LEDGER__BACKEND", "memory")

        async def ask(
            method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
        ) -> Answer:
            event = invocation(method, path, body, headers or {})
            answer = await asyncio.to_thread(lambda_handler.handler, event, Context())
            return Answer(answer["statusCode"], answer["headers"], json.loads(answer["body"]))

        try:
            yield ask
        finally:
            if lambda_handler._service is not None:
                await asyncio.to_thread(lambda_handler._service.close)
                lambda_handler._service = None

    @asynccontextmanager
    async def app(extension: str) -> AsyncIterator[Ask]:
        client = await aiohttp_client(
            create_app(Settings(ledger=IN_MEMORY, intake=PATIENT, extension=extension))
        )
        yield asking(client)
        await client.close()

    ways: dict[str, Enter] = {"serve": serve, "lambda": in_lambda, "create_app": app}
    return ways[request.param]


async def start_serve(extension: str) -> zygote.Child:
    """`orchestrator serve` with the user's folder as `--app-dir`, as a child process."""
    named = {
        "ORCHESTRATOR__EXTENSION": extension,
        "ORCHESTRATOR_LEDGER__BACKEND": "memory",
        "ORCHESTRATOR_INTAKE__DEADLINE_S": "60",
        "ORCHESTRATOR_LOG__FORMAT": "json",
    }
    return await zygote.start(
        "orchestrator",
        *("serve", "--port", "0", "--app-dir", str(FOLDER)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(named),
    )


async def listening(process: zygote.Child) -> str:
    """The address in the service's log, once it listens."""
    assert process.stderr is not None
    said = []
    async for line in process.stderr:
        said.append(line.decode())
        if '"listening"' in said[-1]:
            url: str = json.loads(line)["url"]
            return url
    raise AssertionError("".join(said))


def invocation(method: str, path: str, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """The event that an HTTP API of API Gateway passes to the function."""
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", **headers},
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


# Each part, through each entry point


async def test_every_piece_may_be_the_users(enter: Enter) -> None:
    """Handler, builder, tier function, wrapping function and resources are those of the module."""
    async with enter("own_everything:extension") as ask:
        answer = await ask("POST", "/events/ORDER", {"goods": "bread"})
        assert (answer.status, answer.body) == (200, {"success": True})
        run = (await ask("GET", answer.headers["Location"])).body
        assert run["job"]["id"] == "deliver(GOODS=bread,PRICE=9,DEPOT=north)"
        assert (run["job"]["builder"], run["eventType"]) == ("VAN", "ORDER")

        misfit = await ask("POST", "/events/ORDER", {"goods": 1})
        assert misfit.status == 422
        assert [error["path"] for error in misfit.body["errors"]] == ["$.goods"]

        # The wrapper passes type and body alone; equal content is one event all the same.
        again = await ask("POST", "/events/ORDER", {"goods": "bread"})
        assert again.headers["Location"] == answer.headers["Location"]
        assert again.headers["Idempotent-Replayed"] == "true"
        # So are deliveries with one key.
        keyed = [
            await ask("POST", "/events/ORDER", {"goods": "bread"}, {"Idempotency-Key": key})
            for key in ("k-1", "k-2", "k-1")
        ]
        locations = [answer.headers["Location"] for answer in keyed]
        assert locations[0] == locations[2]
        assert len({*locations, answer.headers["Location"]}) == 3
        assert ["Idempotent-Replayed" in answer.headers for answer in keyed] == [
            False,
            False,
            True,
        ]

        # It gets custom types, even unknown ones, and the envelope as received.
        foreign = {**envelope("WHATEVER", {"b": 1, "a": 2}), "account": "999999999999"}
        refused = await ask("POST", "/events", foreign)
        assert (refused.status, refused.body["detail"]) == (
            422,
            "WHATEVER of ['a', 'b'] is not for us.",
        )


async def test_pieces_may_be_objects_and_classes(enter: Enter) -> None:
    """Parts may be objects and classes: tiers as an object, an orchestrator as a class, a builder
    in place of a built-in one."""
    async with enter("own_objects:extension") as ask:
        body = {"tenantId": "t-1", "tier": "TEAM"}
        answer = await ask("POST", "/events/TENANT_PROVISIONING", body)
        assert answer.status == 200
        run = (await ask("GET", answer.headers["Location"])).body
        assert run["job"]["id"] == "own-cluster x 3"

        gold = {"tenantId": "t-2", "tier": "GOLD"}
        unknown = await ask("POST", "/events/TENANT_PROVISIONING", gold)
        assert unknown.status == 422
        assert "GOLD" in unknown.body["detail"]

        stranger = await ask("POST", "/events", envelope("NEWS", {"x": 1}, source="stranger"))
        assert (stranger.status, stranger.body["detail"]) == (422, "NEWS of ['x'] is not for us.")


async def test_the_orchestrator_may_be_an_object(enter: Enter) -> None:
    """The user's orchestrator gets each type with the JSON as received, and its return value is the
    result."""
    async with enter("own_orchestrator:extension") as ask:
        taken = await ask("POST", "/events/ANY_TYPE", {"welcome": None})
        assert (taken.status, taken.body) == (200, {"success": True})
        assert "Location" not in taken.headers
        sent = envelope("ANY_TYPE", {"type": "x", "data": {"y": [1.5, None]}})
        refused = await ask("POST", "/events", sent)
        assert refused.status == 422
        event_type, _, body = refused.body["detail"].partition(" ")
        assert (event_type, json.loads(body)) == ("ANY_TYPE", sent)


# As a library


async def test_the_library_loads_what_the_settings_name(clock: ManualClock) -> None:
    """`open_orchestrator` opens the lifespan, returns the user's orchestrator and closes all."""
    own_everything: Any = importlib.import_module("own_everything")

    own_everything.lifespan_steps.clear()
    ledger = InMemoryLedger()
    async with open_orchestrator(
        Settings(ledger=IN_MEMORY, intake=PATIENT, extension="own_everything:extension"),
        clock=clock,
        ledger=ledger,
    ) as orchestrator:
        assert own_everything.lifespan_steps == ["open"]
        assert isinstance(orchestrator, own_everything.Guard)
        handled: Any = await orchestrator.handle_event("ORDER", {"goods": "milk"})
        twice: Any = await orchestrator.handle_event("ORDER", {"goods": "milk"})
        with pytest.raises(PermanentError, match="not for us"):
            await orchestrator.handle_event("X", {"account": "999999999999", "detail": {}})
    assert own_everything.lifespan_steps == ["open", "closed"]
    run = await find_run(ledger, handled.run_id)
    assert run is not None
    assert run.job is not None
    assert run.job.id == "deliver(GOODS=milk,PRICE=9,DEPOT=north)"
    # A library call has no id of its event, so each is an event of its own.
    assert twice.run_id != handled.run_id


async def test_an_extension_that_is_handed_over_outranks_the_settings(clock: ManualClock) -> None:
    """An extension that is passed as an argument is used, and the module of the settings isn't
    loaded."""
    app = create_app(
        Settings(ledger=IN_MEMORY, intake=PATIENT, extension="nowhere:extension"),
        extension=Extension(registry=load_extension("own_registry:registry").registry),
        clock=clock,
    )
    assert app[REGISTRY].by_type["TENANT_PROVISIONING"].place.startswith("own_registry.provision")


async def test_a_registry_is_an_extension_and_may_wrap_a_built_in_handler(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A request that the wrapper refuses starts nothing; one that it delegates is provisioned."""
    service = await start_service(attrs.evolve(settings, extension="own_registry:registry"))
    unpaid = {"tenantId": "t-1", "tier": "STANDARD", "unpaid": True}
    refused = await service.post("/events/TENANT_PROVISIONING", json=unpaid)
    assert (refused.status, (await refused.json(content_type=None))["detail"]) == (
        422,
        "Pay first.",
    )
    assert codebuild.builds == {}
    answer = await service.post("/events", json=provisioning_event())
    assert answer.status == 200, await answer.text()
    assert only_build(codebuild).project == "standard-tenant"


# What can't be loaded


WRONG = [
    pytest.param("own_everything", ["package.module:name"], id="no colon"),
    pytest.param("own_everything:", ["package.module:name"], id="no name"),
    pytest.param("nowhere.at_all:extension", ["nowhere", "--app-dir"], id="no such module"),
    pytest.param("own_everything:extensoin", ["extensoin"], id="no such name"),
    pytest.param("own_registry:not_one", ["dict", "HandlerRegistry"], id="wrong kind"),
    pytest.param("needs_missing:extension", ["a_package_that_nobody_has"], id="missing package"),
    pytest.param("raises:extension", ["raises:extension", "KeyError", "PREMIUM"], id="raises"),
]
TWO_HANDLERS = ["ORDER", "two_handlers.first", "two_handlers.second", "two_handlers.py:10"]


@pytest.mark.parametrize(("reference", "said"), WRONG)
def test_a_wrong_reference_is_reported_in_a_sentence(reference: str, said: list[str]) -> None:
    """The sentence quotes the reference and says what is wrong with it."""
    with pytest.raises(RegistrationError) as refused:
        create_app(Settings(ledger=IN_MEMORY, intake=PATIENT, extension=reference))
    sentence = str(refused.value)
    assert repr(reference) in sentence
    for part in said:
        assert part in sentence
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence


@pytest.mark.parametrize("given", [HandlerRegistry(), Extension, {}])
async def test_an_argument_that_is_no_extension_is_refused(given: Any) -> None:
    """Anything else than an `Extension` is refused by a sentence that names its class."""
    sentence = f"The extension is {type(given).__name__}: it must be an Extension, such as "
    settings = Settings(ledger=IN_MEMORY, intake=PATIENT)
    with pytest.raises(RegistrationError, match=sentence):
        create_app(settings, extension=given)
    with pytest.raises(RegistrationError, match=sentence):
        async with open_orchestrator(settings, extension=given):
            pass


def test_two_handlers_for_one_type_are_refused_at_start() -> None:
    """Two handlers for one type are refused at start by a sentence that names both places."""
    with pytest.raises(RegistrationError) as refused:
        create_app(Settings(ledger=IN_MEMORY, intake=PATIENT, extension="two_handlers:registry"))
    for part in TWO_HANDLERS:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        *(case for case in WRONG if case.id in ("no colon", "no such module", "wrong kind")),
        pytest.param("two_handlers:registry", TWO_HANDLERS, id="two handlers"),
    ],
)
async def test_serve_ends_with_one_line(reference: str, said: list[str]) -> None:
    """`serve` exits 1 with one line on standard error, without a traceback."""
    process = await start_serve(reference)
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    line = err.decode()
    assert line.startswith("Error: ")
    assert line.count("\n") == 1
    assert line.endswith("\n")
    for part in said:
        assert part in line


async def test_a_default_builder_that_is_not_there_stops_the_start() -> None:
    """A default builder that doesn't exist fails the start, since each event without a builder
    would be refused permanently."""
    settings = Settings(builders=Builders(default="FOO"))
    with pytest.raises(SettingsError, match="'FOO', which is no builder here; there is CODE_BUILD"):
        async with open_orchestrator(settings):
            pass


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ({"builders": {"MINE": object()}}, "The builder MINE is object: it needs an async start"),
        ({"tiers": 5}, "The extension's tiers are int: they must be async"),
    ],
)
def test_a_piece_that_is_none_is_refused_at_once(pieces: dict[str, Any], said: str) -> None:
    """A part of a wrong type fails the start instead of each event."""
    with pytest.raises(RegistrationError, match=said):
        Extension(**pieces)


async def test_an_orchestrator_that_is_none_stops_the_start() -> None:
    """A wrapper that returns None instead of an orchestrator fails the start."""
    forgetful: Any = Extension(orchestrator=lambda default: None)
    with pytest.raises(RegistrationError, match="orchestrator is NoneType: it needs async handle"):
        async with open_orchestrator(Settings(ledger=IN_MEMORY), extension=forgetful):
            pass
