"""Invalid JSON and unusual texts, as a body and in fields: refused, or handled as text."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.logs import configure_logs
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.stories import list_runs, read_tenant, send, sweep, with_full_tier
from tests.conftest import Client, StartService

TEXTS = {
    "lists": "[" * 600 + "]" * 600,
    "objects": '{"a":' * 600 + "1" + "}" * 600,
    "very deep": "[" * 20_000,
    "texts within texts": json.dumps(["[" * 90 + json.dumps("[" * 90 + "1" + "]" * 90) + "]" * 90]),
    "beyond a double": '{"a": 1e400}',
    "not a number": "[NaN]",
    "10,000 digits": "[" + "1" * 10_000 + "]",
    "half a surrogate pair": '{"a": "\\ud800"}',
    "a name twice": '{"id": "t-1", "id": "t-2"}',
    "a secret, cut short": '{"id": "t-1", "secret": "hunter2',
}
#: Those of them that are no JSON on their own.
BODIES = {name: text for name, text in TEXTS.items() if name != "texts within texts"}
PARAMETERS = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
async def service(
    start_service: StartService, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> Client:
    """The service with a handler that logs all that it gets."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        run.log.info("ordered", body=event.body, **event.body)
        await run.step("remembered", lambda: _as_it_is(event.body))

    return await start_service(with_full_tier(settings), extension=Extension(registry=registry))


async def _as_it_is(body: Any) -> Any:
    return body


def configure() -> None:
    """Configure the log within the test, whose standard error isn't that of its fixtures."""
    configure_logs(level="debug", layout="json", redact=SECRET_NAMES)


@PARAMETERS
async def test_a_handler_that_logs_a_text_succeeds(
    service: Client, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """A handler that logs such a text succeeds, and no line of the log has its secret."""
    configure()
    await read_success(await service.post("/events/ORDER", json={"note": text, "all": [text]}))
    (run,) = await list_runs(service)
    assert run["status"] == "succeeded"
    logged = capsys.readouterr().err
    assert '"ordered"' in logged
    assert "hunter2" not in logged
    assert "not_rendered" not in logged


@PARAMETERS
@pytest.mark.parametrize("field", ["tenant", "plan", "subscription", "builderConfig", "NOTE"])
async def test_a_request_with_such_a_field_is_handled_or_refused(
    service: Client, text: str, field: str
) -> None:
    """A request with such a field is handled or refused, without a bug."""
    configure()
    fields: dict[str, Any] = {field: text}
    answer = await send(service, "TENANT_PROVISIONING", "e-1", **fields)
    assert answer.status in (200, 422), await answer.text()
    (run,) = await list_runs(service)
    assert run["status"] in ("succeeded", "failed")


@PARAMETERS
async def test_an_override_is_passed_on_as_it_is(
    service: Client, codebuild: CodeBuildStandIn, text: str
) -> None:
    """An override with such a text is the build's variable, unchanged."""
    configure()
    event = provisioning_event(tier="FULL", override={"NOTE": text})
    await read_success(await service.post("/events", json=event))
    assert {"name": "NOTE", "type": "PLAINTEXT", "value": text} in only_build(codebuild).overrides


@PARAMETERS
@pytest.mark.parametrize("name", ["TF_KEY", "tenant", "CLIENT_SECRET"])
async def test_an_exported_variable_ends_its_operation(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock, text: str, name: str
) -> None:
    """The sweep ends the operation of a build whatever texts it has exported."""
    configure()
    await read_success(await send(service, "TENANT_PROVISIONING", "e-1"))
    codebuild.finish(only_build(codebuild).id, exported={name: text, "PLAIN": "x"})
    clock.turn(61)
    await sweep(service)
    assert (await read_tenant(service))["state"] == "provisioned"
    assert {run["status"] for run in await list_runs(service)} == {"succeeded"}


@PARAMETERS
async def test_an_outcome_with_such_a_text_ends_its_operation(
    service: Client, codebuild: CodeBuildStandIn, text: str
) -> None:
    """A self-report, which is a build's whole environment, ends its operation with such texts or is
    refused."""
    configure()
    await read_success(await send(service, "TENANT_PROVISIONING", "e-1"))
    answer = await send(
        service, "TENANT_PROVISIONING_SUCCESS", "e-2", NOTE=text, tenant=text, reason=text
    )
    assert answer.status in (200, 422), await answer.text()
    if answer.status == 200:
        assert (await read_tenant(service))["state"] == "provisioned"


@PARAMETERS
async def test_a_cancel_ends_an_operation_with_such_a_text(
    service: Client, codebuild: CodeBuildStandIn, text: str
) -> None:
    """A cancel ends the operation of a build that has exported such a text, with such a reason."""
    configure()
    await read_success(await send(service, "TENANT_PROVISIONING", "e-1", NOTE=text))
    codebuild.finish(only_build(codebuild).id, "STOPPED", exported={"NOTE": text}, reason=text)
    answer = await service.post("/tenants/t-1/cancel", json={"reason": text[:100]})
    assert answer.status in (200, 202), await answer.text()
    assert (await read_tenant(service))["state"] == "provision_failed"


@pytest.mark.parametrize("text", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["/events", "/events/ORDER", "/events/TENANT_PROVISIONING"])
async def test_a_body_that_can_not_be_read_is_a_bad_event(
    service: Client, text: str, path: str
) -> None:
    """A body that is no JSON, as a whole or in a field, is 400 without a run."""
    for body in (text, f'{{"tenantId": "t-1", "tier": "FULL", "a": {text}}}'):
        answer = await service.post(path, data=body, headers={"Content-Type": "application/json"})
        problem = await read_problem(answer, 400)
        assert problem["detail"].startswith("The body is not JSON: ")
    assert await list_runs(service) == []


async def test_a_body_may_begin_with_a_byte_order_mark(service: Client) -> None:
    """A body that begins with a byte order mark, as some tools write it, is handled."""
    body = b"\xef\xbb\xbf" + json.dumps(envelope("ORDER", {"note": "x"})).encode()
    headers = {"Content-Type": "application/json"}
    await read_success(await service.post("/events", data=body, headers=headers))
