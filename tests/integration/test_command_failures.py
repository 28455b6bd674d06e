"""How the operator's commands fail: one line that names the reason, and an exit code."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.cli.client import ServiceUnreachableError, open_client
from orchestrator.embedded import EmbeddedAWS
from tests.integration.commands import assert_one_line, run


async def test_an_answer_of_another_release_is_named() -> None:
    """An answer without an expected field is one line that names the field and another release as
    the cause."""
    async with open_strange(200, '{"items": [{"tenantId": "t-1"}], "cursor": null}') as url:
        assert_one_line(await run("tenants", "--url", url), 1, "it is of another release")
        as_json = await run("tenants", "--url", url, "--json")
    assert (as_json.code, as_json.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "--workers", "2"], "--workers"),
        (["serve", "--workers", "0"], "0"),
        (["reconcile"], "memory"),
        (["reconcile", "now"], "now"),
        (["replay"], "ID"),
        (["replay", "x", "--url", "nowhere"], "nowhere"),
        (["replay", "x", "--header", "nothing"], "NAME:VALUE"),
        (["replay", "x", "--header", ":value"], "NAME:VALUE"),
        (["replay", "x", "--header", "two words:value"], "NAME:VALUE"),
        (["replay", "x", "--header", "name:val\nue"], "NAME:VALUE"),
        (["runs", "--url", "http://[::1"], "'http://[::1' must be like http://127.0.0.1:8080"),
        (["runs", "--url", "http://h:99999"], "'http://h:99999' must be like http://"),
        (["runs", "--url", "http://"], "'http://' must be like http://"),
        (["explain", "lost.json"], "'lost.json': No such file or directory. Try `"),
        (["tenant"], "ID"),
        (["cancel"], "TENANT"),
        (["tenants", "--status", "failed"], "--status"),
        (["runs", "--status", "bogus"], "'bogus'"),
        (["runs", "--since", "yesterday"], "'yesterday' is no time such as 2026-11-20T09:14:03Z"),
        (["runs", "--until", "2026-11-20"], "'2026-11-20' is no time such as"),
        (["runs", "--until", "2026-11-20T09:14:03"], "'2026-11-20T09:14:03' is no time such as"),
        (
            ["runs", "--status", "bogus"],
            "running, succeeded, failed, retry, duplicate, queued",
        ),
        (
            ["tenants", "--state", "lost"],
            "'lost' is not one of provisioning, provisioned, provision_failed",
        ),
        (["init", "--force"], "--force"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_bad_usage_exits_2_with_one_line(arguments: list[str], named: str) -> None:
    """Bad usage exits 2, with one line that says what was wrong."""
    assert_one_line(await run(*arguments, ORCHESTRATOR_LEDGER__BACKEND="memory"), 2, named)


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_an_address_that_cannot_be_listened_at_is_named(command: str) -> None:
    """An address that can't be listened at is named with the reason, without a number of an
    operating system's error."""
    queue = {"ORCHESTRATOR_INTAKE__QUEUE_URL": "http://127.0.0.1:9/q"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await run(command, "--port", port, **queue)
    assert_one_line(
        ended, 1, f"Error: Port {port} on 127.0.0.1 is not available (Address already in use): pass"
    )
    ended = await run(command, "--host", "256.1.1.1", "--port", port, **queue)
    assert_one_line(ended, 1, f"Error: Port {port} on 256.1.1.1 is not available (")


async def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file whose folder is missing is one line that names it."""
    ended = await run("openapi", "--output", str(tmp_path / "lost" / "openapi.json"))
    assert_one_line(ended, 1, f"Error: {tmp_path}/lost/openapi.json: No such file or directory.")


async def test_a_service_that_is_not_there_is_named_with_the_reason() -> None:
    """An unreachable service is named with the operating system's reason, without terms of an HTTP
    library."""
    ended = await run("runs", "--url", "http://127.0.0.1:9")
    assert_one_line(ended, 1, "Nothing answers at http://127.0.0.1:9 (Connection refused): start")


Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def open_speaking(speak: Speak) -> AsyncIterator[str]:
    """A server that takes one connection and closes it when it has spoken; its url."""
    is_over = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        is_over.set()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await is_over.wait()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "(Connection reset by peer)"),
        (b"", "(it closed the connection)"),
        (b"\x00garbage\r\n\r\n", "(that is not HTTP)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "(its answer broke off)"),
    ],
)
async def test_an_answer_that_is_none_is_named_in_words(answer: bytes | None, reason: str) -> None:
    """A broken answer is named in words, not by errors of an HTTP library."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            # Closed at once, with a reset (socket(7), SO_LINGER).
            linger = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.get_extra_info("socket").setsockopt(*linger)
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

    async with open_speaking(speak) as url:
        ended = await run("runs", "--url", url)
    assert_one_line(ended, 1, f"Nothing answers at {url} {reason}: start the")


async def test_a_service_that_is_silent_is_given_up() -> None:
    """A command doesn't wait without end for a server that accepts connections only."""

    async def keep_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with open_speaking(keep_silent) as url:
        impatient = aiohttp.ClientTimeout(sock_read=0.05)
        async with open_client(url, headers={}, patience=impatient) as client:
            with pytest.raises(ServiceUnreachableError, match=r"\(no answer in time\)"):
                await client.get_runs({}, limit=1)


async def test_a_missing_key_is_answered_with_the_way_to_send_it() -> None:
    """A missing key is one line with the service's sentence and the option that sends it."""
    problem = json.dumps({"status": 401, "detail": "The header x-api-key has no valid key."})
    async with open_strange(401, problem) as url:
        for command in (("runs",), ("cancel", "t-1")):
            ended = await run(*command, "--url", url)
            assert_one_line(ended, 1, "has no valid key. Pass it with --header NAME:VALUE")


async def test_a_failure_shows_no_password_of_a_url(tmp_path: Path) -> None:
    """A password of a URL in an extension's exception isn't shown, since a container's output is a
    log."""
    (tmp_path / "database.py").write_text(
        "raise RuntimeError('no database at postgres://user:hunter2@db/tenants')"
    )
    ended = await run("openapi", "--app-dir", str(tmp_path), ORCHESTRATOR__EXTENSION="database:x")
    assert_one_line(ended, 1, "no database at postgres://db/tenants")


async def test_dev_takes_no_other_service_for_its_own() -> None:
    """`dev` fails if another program listens at its port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = await run("dev", "--port", str(taken.getsockname()[1]))
    assert_one_line(ended, 1, "pass another --port")
    assert "Service " not in ended.out


@asynccontextmanager
async def open_strange(status: int, text: str, **headers: str) -> AsyncIterator[str]:
    """A server that is no orchestrator; its url."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize(
    ("status", "text", "named"),
    [
        (502, "<html>Bad Gateway</html>", "answers 502, but not as an orchestrator does"),
        (503, "", "answers 503, but not as an orchestrator does"),
        (200, "[1]", "answers 200, but not as an orchestrator does"),
        (302, "", "redirects to http://127.0.0.1:9/: name that with --url"),
    ],
)
@pytest.mark.parametrize("command", [("runs",), ("cancel", "t-1"), ("replay", "a-run")])
async def test_an_answer_of_another_program_is_named(
    command: tuple[str, ...], status: int, text: str, named: str
) -> None:
    """An answer of a proxy, another program or a login page is named, and credentials don't follow
    a redirect."""
    location = {"Location": "http://127.0.0.1:9/"} if status == 302 else {}
    async with open_strange(status, text, **location) as url:
        assert_one_line(await run(*command, "--url", url), 1, named)


async def test_a_replay_that_breaks_off_names_what_was_replayed() -> None:
    """A replay that fails shows the runs that were replayed before, as text and as JSON."""

    async def replay(request: web.Request) -> web.Response:
        if request.match_info["run_id"] == "first":
            return web.json_response({"success": True})
        return web.Response(status=502, text="<html>Bad Gateway</html>")

    app = web.Application()
    app.router.add_post("/runs/{run_id}/replay", replay)
    async with TestServer(app, host="127.0.0.1") as server:
        url = str(server.make_url("/"))
        ended = await run("replay", "first", "second", "--url", url)
        as_json = await run("replay", "first", "second", "--url", url, "--json")
        none = await run("replay", "second", "first", "--url", url, "--json")
    assert (ended.code, ended.out) == (1, "The run first was replayed.\n")
    assert re.fullmatch("Error: .* answers 502, but not as an orchestrator does.*\n", ended.err)
    assert (as_json.code, [one["status"] for one in json.loads(as_json.out)]) == (1, [200])
    assert (none.code, none.out) == (1, "")


async def test_without_a_command_there_is_help() -> None:
    """Without a command there is help and exit code 2, as for any bad usage."""
    ended = await run()
    assert ended.code == 2
    assert ended.err.startswith("Usage: orchestrator")


async def test_adopting_fails_in_one_line(aws: EmbeddedAWS, tmp_path: Path) -> None:
    """`adopt` fails in one line without the file, without a ledger, and without the ledger's
    table."""
    file = tmp_path / "tenants.jsonl"
    file.write_text('{"id": "t-1", "tier": "BASIC", "state": "active"}')
    assert_one_line(await run("adopt", str(tmp_path / "none")), 2, "none")
    assert_one_line(
        await run("adopt", str(file), ORCHESTRATOR_LEDGER__BACKEND="memory"), 2, "memory"
    )
    missing = await run("adopt", str(file), ORCHESTRATOR_LEDGER__TABLE="no-such-table")
    assert_one_line(missing, 1, "the same command continues")
