"""Secrets of events are passed to the builder, and shown nowhere else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import structlog
from attrs.validators import matches_re

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.logs import configure_logs
from orchestrator.settings import Log
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, variables
from tests.conftest import Client, StartService

SAMPLES = Path(__file__).parents[1] / "samples"
SECRET = "s3cr3t"  # in every value that must not be shown
OVERRIDE = {
    "secret": f"{SECRET}-1",
    "CLIENT_SECRET": f"{SECRET}-2",
    "DB_PASSWORD": f"{SECRET}-3",
    "githubToken": f"{SECRET}-4",
    "DATABASE": {"password": f"{SECRET}-5"},
    "STRIPE_API_KEY": f"{SECRET}-9",
    "signing": json.dumps({"privateKey": SECRET, "db": json.dumps({"pwd": SECRET})}),
    "REPOSITORY": f"https://deploy:{SECRET}-12@git.example/app",
    "ACCESS_TOKEN_EXPIRATION": "7200",
    "TOKEN_COUNT": 12,
}
SELF_REPORT = {
    "TENANT_ID": "t-1",
    "secret": f"{SECRET}-6",
    "AWS_SESSION_TOKEN": f"{SECRET}-7",
    "ADMIN_PASSWORD": f"{SECRET}-8",
}


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Everything:
    """All output of the service: answers, their headers, stored runs, the log."""

    def __init__(self, service: Client, capsys: pytest.CaptureFixture[str]) -> None:
        # Within the test, whose standard error isn't that of its fixtures.
        configure_logs(level="debug", layout="json", redact=SECRET_NAMES)
        self._service = service
        self._capsys = capsys
        self.texts: list[str] = []

    async def post(self, path: str, body: Any, status: int) -> None:
        answer = await self._service.post(path, json=body)
        assert answer.status == status, await answer.text()
        self.texts += [await answer.text(), str(answer.headers)]
        address = answer.headers.get("Location") or (await read_problem(answer, status))["instance"]
        if address.startswith("/runs/"):
            async with self._service.get(address) as run:
                assert run.status == 200
                self.texts.append(await run.text())

    def logged(self) -> list[dict[str, Any]]:
        captured = self._capsys.readouterr()
        self.texts.append(captured.out)
        self.texts.append(captured.err)
        return [json.loads(line) for line in captured.err.splitlines()]

    def assert_discreet(self, secret: str = SECRET) -> None:
        assert [text for text in self.texts if text]
        assert not [text for text in self.texts if secret in text]


async def test_a_provisionings_secrets_reach_the_build_alone(
    service: Client, codebuild: CodeBuildStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build gets each secret, and neither log, answer nor run shows one."""
    seen = Everything(service, capsys)
    await seen.post("/events", provisioning_event(override=OVERRIDE), 200)
    assert seen.logged()
    seen.assert_discreet()
    given = variables(only_build(codebuild))
    assert {given[name] for name in ("secret", "CLIENT_SECRET", "githubToken")} == {
        f"{SECRET}-{number}" for number in (1, 2, 4)
    }
    assert (given["ACCESS_TOKEN_EXPIRATION"], given["TOKEN_COUNT"]) == ("7200", "12")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/events", envelope("TENANT_PROVISIONING_SUCCESS", SELF_REPORT), 200, id="ok"),
        pytest.param("/events/NEWS", {"tenantId": "t-1", **OVERRIDE}, 400, id="unsupported type"),
        pytest.param(
            "/events/TENANT_PROVISIONING_FAILURE",
            {**SELF_REPORT, "tenant": 7, "builderConfig": 1},
            422,
            id="misfit",
        ),
        pytest.param(
            "/events", provisioning_event(tier="GOLD", override=OVERRIDE), 422, id="no such tier"
        ),
        pytest.param(
            "/events",
            provisioning_event(override={**OVERRIDE, "NOT-LEGAL-SECRET": SECRET}),
            422,
            id="illegal name",
        ),
        pytest.param("/events", {**envelope("X", OVERRIDE), "time": "never"}, 400, id="no event"),
    ],
)
async def test_a_refusal_shows_no_secret(
    service: Client, capsys: pytest.CaptureFixture[str], path: str, body: Any, status: int
) -> None:
    """No answer to an event has its secrets, whatever its status."""
    seen = Everything(service, capsys)
    await seen.post(path, body, status)
    seen.logged()
    seen.assert_discreet()


async def test_a_fault_of_aws_shows_no_secret(
    service: Client, codebuild: CodeBuildStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of a start that failed is shown without the start's variables."""
    codebuild.inject("StartBuild", Fault.error("AccessDeniedException", "not you"))
    seen = Everything(service, capsys)
    await seen.post("/events", provisioning_event(override=OVERRIDE), 503)
    assert any("not you" in str(line) for line in seen.logged())
    seen.assert_discreet()


async def test_a_validator_that_quotes_a_secret_is_not_quoted(
    start_service: StartService, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mismatch of a secret is named by its path, without the value; that of a plain field may
    have it."""
    registry = HandlerRegistry()

    @attrs.frozen
    class Credentials:
        password: str = attrs.field(validator=matches_re("[0-9]+"))
        login: str = attrs.field(validator=matches_re("[0-9]+"))

    @registry.on("LOGIN", payload=Credentials)
    async def login(event: Event[Credentials], run: Run) -> None:
        """Nothing to do."""

    service = await start_service(extension=Extension(registry=registry))
    seen = Everything(service, capsys)
    await seen.post("/events/LOGIN", {"password": SECRET, "login": "1"}, 422)
    await seen.post("/events/LOGIN", {"password": "1", "login": "x-ada"}, 422)
    seen.logged()
    seen.assert_discreet()
    assert "$.password" in seen.texts[0]
    assert "x-ada" in "".join(seen.texts)


def telling(**extra: Any) -> Extension:
    """An extension with a handler that logs all that it gets."""
    registry = HandlerRegistry()

    @registry.on("TELL")
    async def tell(event: Event[dict[str, Any]], run: Run) -> None:
        run.log.info("got", body=event.body, raw=event.raw, password=SECRET, **extra)

    return Extension(registry=registry)


async def test_secrets_in_a_handlers_log_lines_are_masked(
    start_service: StartService, capsys: pytest.CaptureFixture[str]
) -> None:
    """Secrets of a whole body in the log are masked; expirations and numbers stay."""
    service = await start_service(extension=telling(TOKEN_TTL=5))
    seen = Everything(service, capsys)
    body = {"tenantId": "t-1", "list": [OVERRIDE], **SELF_REPORT}
    await seen.post("/events/TELL", body, 200)
    (line,) = [line for line in seen.logged() if line["event"] == "got"]
    seen.assert_discreet()
    assert (line["password"], line["TOKEN_TTL"], line["tenant_id"]) == ("***", 5, "t-1")
    assert line["body"] == line["raw"]
    assert line["body"]["secret"] == "***"
    (masked,) = line["body"]["list"]
    assert masked["DATABASE"] == {"password": "***"}
    assert (masked["ACCESS_TOKEN_EXPIRATION"], masked["TOKEN_COUNT"]) == ("7200", 12)


async def test_a_bug_shows_no_secret(
    start_service: StartService, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has the bug's traceback, and neither log nor answer has the values that the handler
    received."""
    registry = HandlerRegistry()

    @registry.on("BUG")
    async def bug(event: Event[dict[str, Any]], run: Run) -> None:
        password = event.body["password"]
        raise ZeroDivisionError(len(password))

    service = await start_service(extension=Extension(registry=registry))
    seen = Everything(service, capsys)
    await seen.post("/events/BUG", {"password": SECRET}, 500)
    assert any("Traceback" in line.get("exception", "") for line in seen.logged())
    seen.assert_discreet()


@pytest.mark.parametrize("layout", ["json", "console"])
async def test_names_may_be_chosen(
    start_service: StartService,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    layout: Literal["json", "console"],
) -> None:
    """`log.redact` is the whole list: the names in it are masked in logs and problems, and no
    others."""
    chosen = Log(redact=("*ssn*", "!ssn_ref"), format=layout)
    registry = HandlerRegistry()

    @attrs.frozen
    class Person:
        my_ssn: str = attrs.field(validator=matches_re("good-.*"))

    @registry.on("PERSON", payload=Person)
    async def person(event: Event[Person], run: Run) -> None:
        run.log.info("got", **event.body)

    configure_logs(level="info", layout=chosen.format, redact=chosen.redact)
    service = await start_service(
        attrs.evolve(settings, log=chosen), extension=Extension(registry=registry)
    )
    body = {"mySsn": "good-one", "ssn_ref": "ref-9", "token": "tok-9"}
    answer = await service.post("/events/PERSON", json=body)
    assert answer.status == 200
    refused = await service.post("/events/PERSON", json={"mySsn": "bad-two"})
    assert "bad-two" not in json.dumps(await read_problem(refused, 422))
    logged = capsys.readouterr().err
    assert "good-one" not in logged
    assert "bad-two" not in logged
    assert "ref-9" in logged
    assert "tok-9" in logged


async def test_a_bug_shows_no_secret_on_a_console_either(
    start_service: StartService, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback on the console has no values of local variables."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        raise LookupError("no such thing")

    service = await start_service(extension=Extension(registry=registry))
    configure_logs(level="info", layout="console", redact=SECRET_NAMES)
    answer = await service.post("/events/ORDER", json={"password": SECRET})
    await read_problem(answer, 500)
    logged = capsys.readouterr().err
    assert "LookupError: no such thing" in logged
    assert SECRET not in logged
