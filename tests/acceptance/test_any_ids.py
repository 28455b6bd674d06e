"""Any accepted id can be reached, over HTTP and through Lambda, by its quoted form and by
`Location`."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from yarl import URL

from orchestrator import Settings
from orchestrator.cli.client import Client
from orchestrator.lambda_handler import LambdaService
from orchestrator.testing import provisioning_event
from tests.acceptance.lambda_functions import ask, post
from tests.acceptance.served import Answered, Server, app_of, open_server
from tests.acceptance.ways import MakeEvent
from tests.lambda_events import FORMATS

TRICKS = (
    *("..", ".", "...", "/", "//", "a/b", "/a", "a/", "../..", "a/../b", "\\", "..\\", "%", "%25"),
    *("%2F", "%2f", "%2E%2E", "%00", "%zz", "{", "}", "{tenantId}", "{}", "?", "#", "&", "=", "+"),
    *(" ", "a b", ";", ":", "@", "a:b@c", "~", "*", "<script>", "'", '"', "\x00", "\r\n", "\x7f"),
    *("\x9b", "ü", "u\u0308", "日本語", "😀", "\u202e", "\u2028", "\ufeff", "cancel", "a/cancel"),
)
IDS = st.lists(st.sampled_from(TRICKS), min_size=1, max_size=4).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12
)
Send = Callable[[str, str, bytes], Answered]


def for_every_id(test: Any) -> Any:
    """Run a test with each special id, and with some ids that Hypothesis makes."""
    for trick in TRICKS:
        test = example(trick)(test)
    quiet = hypothesis_settings(
        deadline=None,
        max_examples=40,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    return quiet(given(IDS)(test))


def quoted(name: str) -> str:
    """As a client quotes an id in a path; dots alone would be a step in it."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    with open_server(settings) as opened:
        yield opened


@pytest.fixture(
    params=["HTTP", *FORMATS.values()],
    ids=["HTTP", *FORMATS],
)
def send(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Send]:
    """Each entry point, with the path as it was sent."""
    if request.param == "HTTP":
        yield request.getfixturevalue("server").send
        return
    make_event: MakeEvent = request.param
    service = LambdaService(app_of(settings))

    def invoke(method: str, path: str, body: bytes) -> Answered:
        event = post(make_event, path, body) if body else make_event(method, path)
        answer = ask(service, event)
        return answer.status, answer.headers, answer.json()

    yield invoke
    service.close()


def provision(send: Send, tenant_id: str) -> Answered:
    event = provisioning_event(tenant_id=tenant_id, event_id=tenant_id.encode().hex() or "none")
    return send("POST", "/events", json.dumps(event).encode())


@for_every_id
def test_a_tenant_is_reached_by_its_id(send: Send, tenant_id: str) -> None:
    """A tenant's run is reached by the `Location` of its event, the tenant by its quoted id and by
    the `Location` of a cancel; an id that can't be stored is refused with its path."""
    status, headers, answer = provision(send, tenant_id)
    if status == 422:
        assert answer["errors"], answer
        return
    assert status == 200, answer
    status, _, run = send("GET", headers["Location"], b"")
    assert (status, run["tenantId"]) == (200, tenant_id)
    status, _, tenant = send("GET", f"/tenants/{quoted(tenant_id)}", b"")
    assert (status, tenant["tenantId"]) == (200, tenant_id)
    status, headers, answer = send("POST", f"/tenants/{quoted(tenant_id)}/cancel", b"{}")
    assert status in (200, 202, 422), answer
    if status != 422:  # cancelled by an earlier example
        status, _, tenant = send("GET", headers["Location"], b"")
        assert (status, tenant["tenantId"]) == (200, tenant_id)


@for_every_id
def test_a_run_and_a_type_are_reached_by_any_name(send: Send, name: str) -> None:
    """The answer about an unknown run or type names it as it was sent."""
    status, _, answer = send("GET", f"/runs/{quoted(name)}", b"")
    assert (status, answer["detail"]) == (404, f"There is no run {name!r}.")
    status, _, answer = send("POST", f"/runs/{quoted(name)}/replay", b"{}")
    assert (status, answer["detail"]) == (404, f"There is no run {name!r}.")
    status, _, answer = send("POST", f"/events/{quoted(name)}", b'{"tenantId": "t"}')
    assert status == 400, answer


@for_every_id
def test_the_command_line_reaches_any_id(server: Server, tenant_id: str) -> None:
    """The client of the command line quotes any id."""
    status, headers, _ = provision(server.send, tenant_id)
    if status != 200:
        return
    client = Client(server.http, URL(server.base))

    def of(work: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await work

        return server.runner.run(wait())

    assert of(client.get_tenant(tenant_id))["tenantId"] == tenant_id
    run_id = headers["Location"].rpartition("/")[2]
    assert of(client.get_run(run_id))["tenantId"] == tenant_id
    replayed = of(client.replay_run(run_id, force=False))
    assert replayed.run is None or replayed.run["runId"] == run_id
