"""Whatever a command prints, no control character of a sender reaches the terminal."""

import ast
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import orchestrator
from orchestrator.cli import terminal
from orchestrator.testing import provisioning_event
from tests.integration.commands import run

#: Clears the screen, sets the window's title, adds lines, deletes, reverses the direction of text.
CONTROL = "a\x1b[2J\x1b]0;b\x07\x9b2J\x00\x7f\r\nc\x85\u202ed\u2066e\u2028f"
SHOWN = r"a\x1b[2J\x1b]0;b\x07\x9b2J\x00\x7f\r\nc\x85\u202ed\u2066e\u2028f"

JOB = {"builder": CONTROL, "id": CONTROL, "logUrl": CONTROL}
ATTEMPT = {
    "number": 1,
    "startedAt": CONTROL,
    "endedAt": CONTROL,
    "how": CONTROL,
    "reason": CONTROL,
    "replayed": True,
    "by": CONTROL,
}
RUN = {
    "runId": CONTROL,
    "status": CONTROL,
    "eventType": CONTROL,
    "tenantId": CONTROL,
    "source": CONTROL,
    "eventId": CONTROL,
    "attempt": 1,
    "firstSeen": CONTROL,
    "operationId": CONTROL,
    "outcomeOf": CONTROL,
    "duplicateOf": CONTROL,
    "waitsFor": {"operationId": CONTROL, "runId": CONTROL},
    "steps": [{"name": CONTROL, "startedAt": CONTROL, "recordedAt": CONTROL}],
    "attempts": [ATTEMPT],
    "waits": [{"kind": CONTROL, "count": 1, "seconds": 1.0}],
    "job": JOB,
    "note": CONTROL,
    "dueAt": CONTROL,
    "error": {"message": CONTROL, "errors": [{"path": CONTROL, "message": CONTROL}]},
}
START = {
    "number": 1,
    "runId": CONTROL,
    "state": "over",
    "openedAt": CONTROL,
    "endedAt": CONTROL,
    "succeeded": False,
    "reason": CONTROL,
    "job": JOB,
    "by": CONTROL,
    "cancelledBy": CONTROL,
}
REPORT = {
    "count": 1,
    "tries": [{"at": CONTROL, "answer": CONTROL}],
    "doneAt": CONTROL,
    "trouble": CONTROL,
    "nextAt": CONTROL,
}
OPERATION = {"kind": CONTROL, "operationId": CONTROL, "starts": [START], "report": REPORT}
TENANT = {
    "tenantId": CONTROL,
    "state": CONTROL,
    "changedAt": CONTROL,
    "tier": CONTROL,
    "isSlow": False,
    "waitingCount": 1,
    "waiting": [CONTROL],
    "reason": CONTROL,
    "operation": {"kind": CONTROL, "openedAt": CONTROL, "deadlineAt": CONTROL, "job": JOB},
    "operations": [OPERATION],
    "operationsCursor": CONTROL,
    "cursor": CONTROL,
    "timeline": [
        {
            "runId": CONTROL,
            "at": CONTROL,
            "status": CONTROL,
            "eventType": CONTROL,
            "reason": CONTROL,
            "link": CONTROL,
            "attempts": [ATTEMPT],
            "cancelledBy": CONTROL,
        }
    ],
}
ANSWERS: dict[str, Any] = {
    "/runs": {"items": [RUN], "cursor": CONTROL},
    "/runs/1": RUN,
    "/tenants": {"items": [TENANT], "cursor": CONTROL},
    "/tenants/1": TENANT,
    "/tenants/1/cancel": {"stopped": {"kind": CONTROL, "operationId": CONTROL}},
    "/runs/1/replay": {"success": CONTROL, "instance": "/runs/1"},
    "/events/X": {"success": CONTROL, "instance": "/runs/1"},
}


@pytest.fixture
async def service() -> AsyncIterator[str]:
    """The URL of a service each of whose texts has control characters."""

    async def answer(request: web.Request) -> web.Response:
        if request.path in ANSWERS:
            return web.json_response(ANSWERS[request.path])
        return web.json_response({"detail": CONTROL}, status=422)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize(
    "command",
    [
        ("runs",),
        ("run", "1"),
        ("tenants",),
        ("tenant", "1"),
        ("cancel", "1"),
        ("replay", "1"),
        ("run", "none"),
        ("cancel", "none"),
    ],
    ids=" ".join,
)
async def test_a_services_answer_is_escaped(service: str, command: tuple[str, ...]) -> None:
    """A service's texts are escaped in tables and errors, and with --json are JSON with the same
    texts."""
    shown = await run(*command, "--url", service)
    assert all(line.isprintable() for line in (shown.out + shown.err).split("\n")), shown
    assert SHOWN in shown.out + shown.err
    as_json = await run(*command, "--url", service, "--json")
    assert (as_json.out + as_json.err).replace("\n", "").isascii()
    assert all(line.isprintable() for line in (as_json.out + as_json.err).split("\n"))
    if as_json.code == 0:
        assert CONTROL in str_values(json.loads(as_json.out))


def str_values(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for one in value.values() for text in str_values(one)]
        case list():
            return [text for one in value for text in str_values(one)]
    return [value] if isinstance(value, str) else []


async def test_output_of_send_and_explain_is_escaped(service: str, tmp_path: Path) -> None:
    """The texts of an event's run, its type, tenant and variables, and a file's name are
    escaped."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(provisioning_event(tenant_id=CONTROL, override={"A": CONTROL})))
    sent = await run("send", "X", str(event), "--url", service)
    explained = await run("explain", str(event), "--config", "local.toml")
    nowhere = await run("runs", "--url", CONTROL.replace("\x00", ""))
    unknown = await run("explain", CONTROL.replace("\x00", ""))
    for shown in (sent, explained, nowhere, unknown):
        assert all(line.isprintable() for line in (shown.out + shown.err).split("\n")), shown
        assert r"a\x1b[2J" in shown.out + shown.err


def test_nothing_else_prints() -> None:
    """No command prints except through `terminal.py`, which escapes, or the demo, which prints its
    own texts."""
    package = Path(orchestrator.__file__).parent
    printing = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo")
    }
    assert printing == {Path(terminal.__file__).relative_to(package).as_posix()}
