"""The command line, run as a child process: what it prints, and how it exits.

An interpreter of its own takes about a second: one for each command.
"""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import click
import pytest
from click.testing import CliRunner
from yarl import URL

from orchestrator.cli.main import commands
from orchestrator.cli.prepared_aws import open_prepared_aws
from orchestrator.cli.service_process import Service, open_service
from orchestrator.settings import child_environment, load_settings
from tests.integration.commands import Ended, run

BASIC = {"tenant": {"id": "t-1"}, "planConfig": {"tier": "BASIC"}}
UNREACHABLE = "http://127.0.0.1:9"


async def run_alone(*arguments: str, columns: int = 100) -> Ended:
    """Run `orchestrator` in an interpreter of its own, which shows that no import is missing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orchestrator",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({"COLUMNS": str(columns)}),
    )
    out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


def assert_one_line(ended: Ended) -> None:
    """A failure is one line on standard error, without a traceback."""
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.endswith("\n")
    assert "Traceback" not in ended.err + ended.out


async def test_help_lists_the_commands() -> None:
    """`--help` exits 0 and names each command."""
    ended = await run_alone("--help")
    assert ended.code == 0
    listed = {line.split()[0] for line in ended.out.partition("Commands:")[2].splitlines() if line}
    assert {"serve", "dev", "demo", "send", "openapi"} <= listed


def paths(command: click.Command, *path: str) -> list[tuple[str, ...]]:
    """The command and its subcommands, by their names."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [path, *(found for name, one in below for found in paths(one, *path, name))]


@pytest.mark.parametrize("arguments", paths(commands), ids=" ".join)
def test_help_is_whole_at_80_columns(arguments: tuple[str, ...]) -> None:
    """In help no summary is cut, and no line is longer than 80 columns."""
    shown = CliRunner().invoke(commands, [*arguments, "--help"], terminal_width=80)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    listed = shown.output.partition("Commands:")[2].splitlines()
    assert not [line for line in listed if line.endswith("...")]


@pytest.mark.parametrize(
    ("words", "word", "completed"),
    [
        (("orchestrator",), "ten", {"tenant", "tenants"}),
        (("orchestrator", "runs"), "--s", {"--status", "--since"}),
        (("orchestrator", "runs", "--status"), "r", {"running", "retry"}),
        (("orchestrator", "tenants", "--state"), "provisione", {"provisioned"}),
        (("orchestrator", "tenants", "--sort"), "a", {"attention"}),
    ],
)
def test_the_shell_completes_commands_options_and_names(
    words: tuple[str, ...], word: str, completed: set[str]
) -> None:
    """Commands, options and names are completed, as the script of
    `_ORCHESTRATOR_COMPLETE=bash_source` requests it."""
    asked = subprocess.run(
        [sys.executable, "-m", "orchestrator"],
        env=child_environment(
            {
                "_ORCHESTRATOR_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join((*words, word)),
                "COMP_CWORD": str(len(words)),
            }
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.partition(",")[2] for line in asked.stdout.split()} == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_enables_it(shell: str) -> None:
    """The completion script of each shell calls this command."""
    printed = subprocess.run(
        [sys.executable, "-m", "orchestrator"],
        env=child_environment({"_ORCHESTRATOR_COMPLETE": f"{shell}_source"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"_ORCHESTRATOR_COMPLETE={shell}_complete" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["srve"], "srve"),
        (["serve", "--port", "eighty"], "eighty"),
        (["openapi", "--check"], "--output"),
        (["send"], "TYPE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_bad_usage_exits_2_with_one_line(arguments: list[str], named: str) -> None:
    """Bad usage exits 2, with one line that says what was wrong."""
    ended = await run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert_one_line(ended)
    assert named in ended.err


async def test_a_config_that_is_not_there_exits_1_with_one_line() -> None:
    """A missing configuration file exits 1, with one line that names it."""
    ended = await run("serve", "--config", "nowhere.toml")
    assert ended.code == 1
    assert_one_line(ended)
    assert "nowhere.toml" in ended.err


async def test_openapi_check_finds_a_document_out_of_date(tmp_path: Path) -> None:
    """`--check` accepts the file that `--output` wrote, and refuses a changed one, which it leaves
    as it is."""
    document = tmp_path / "openapi.json"
    arguments = ("openapi", "--config", "local.toml", "--output", str(document))
    assert (await run_alone(*arguments)).code == 0
    assert json.loads(document.read_text())["openapi"].startswith("3.1")
    assert await run(*arguments, "--check") == Ended(0, "", "")

    document.write_text(document.read_text().replace("SaaS", "SAAS"))
    stale = document.read_text()
    ended = await run(*arguments, "--check")
    assert ended.code == 1
    assert_one_line(ended)
    assert str(document) in ended.err
    assert document.read_text() == stale


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """`orchestrator serve` over an embedded AWS with the sample tiers."""
    async with (
        open_prepared_aws(load_settings("local.toml")) as aws,
        open_service(config="local.toml", environment=aws.environment()) as service,
    ):
        yield service


async def test_send_shows_what_came_of_the_event(service: Service, tmp_path: Path) -> None:
    """`send` shows the run and its job and exits 0, or why the event was refused and exits 1, from
    a file or standard input."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(BASIC))
    here = ("--url", service.url)
    sent = await run_alone("send", "TENANT_PROVISIONING", str(event), *here, "--json")
    assert (sent.code, sent.err) == (0, "")
    shown = json.loads(sent.out)
    assert (shown["status"], shown["answer"]) == (200, {"success": True})
    assert (shown["run"]["status"], shown["run"]["tenantId"]) == ("succeeded", "t-1")
    assert shown["run"]["job"]["jobIdentifier"] == "basic-tenant"

    gold = json.dumps({**BASIC, "tenant": {"id": "t-2"}, "planConfig": {"tier": "GOLD"}})
    refused = await run("send", "TENANT_PROVISIONING", *here, stdin=gold)
    assert refused.code == 1
    for said in ("422", "GOLD", "failed", "t-2"):
        assert said in refused.out
    assert "Traceback" not in refused.err


async def test_an_event_can_be_sent_twice_on_purpose(service: Service) -> None:
    """`--id` sets the event's id, even if the body has another; an id that no header can carry is
    refused."""
    here, body = ("--url", service.url), json.dumps({**BASIC, "id": "its-own"})
    for came in ("was handled:", "was handled by an earlier delivery:"):
        sent = await run("send", "TENANT_PROVISIONING", *here, "--id", "again-é", stdin=body)
        assert came in sent.out
    shown = await run("send", "TENANT_PROVISIONING", *here, "--id", "again-é", "--json", stdin=body)
    assert json.loads(shown.out)["run"]["eventId"] == "again-é"
    for bad in ("", " ", "two\nlines"):
        refused = await run("send", "TENANT_PROVISIONING", *here, "--id", bad, stdin=body)
        assert (refused.code, "Traceback" in refused.err) == (2, False)
        assert "--id" in refused.err


async def test_runs_are_listed_and_shown(service: Service) -> None:
    """A list has a line for each run, and one run is shown with its job; an unknown run is one line
    and exit code 1."""
    here = ("--url", service.url)
    assert (await run_alone("runs", *here)).out == "no runs\n"
    sent = await run("send", "TENANT_PROVISIONING", *here, "--json", stdin=json.dumps(BASIC))
    run_id = json.loads(sent.out)["run"]["runId"]
    listed = await run("runs", *here, "--tenant", "t-1", "--header", "x-api-key:unused")
    headings, line = listed.out.splitlines()
    assert headings.split() == ["RUN", "STATUS", "FIRST", "SEEN", "TYPE", "TENANT"]
    short, status, *_, event_type, tenant_id = line.split()
    assert (status, event_type, tenant_id) == ("succeeded", "TENANT_PROVISIONING", "t-1")
    assert (len(short), run_id[:8]) == (8, short)
    assert (await run("run", short, *here)).out == (await run("run", run_id, *here)).out
    shown = await run_alone("run", run_id, *here)
    assert (shown.code, shown.err) == (0, "")
    assert "CODE_BUILD basic-tenant:" in shown.out
    missing = await run("run", "nowhere", *here)
    assert missing.code == 1
    assert_one_line(missing)


async def test_dev_answers_only_to_its_own_host(service: Service) -> None:
    """A request to `dev` under another host name, as by DNS rebinding, is 421 for pages, data and
    events."""
    port = URL(service.url).port
    names = (f"127.0.0.1:{port}", f"localhost:{port}")
    bent = (f"evil.example:{port}", "127.0.0.1")
    statuses = {}
    async with aiohttp.ClientSession() as http:
        for host in (*names, *bent):
            for path in ("/", "/runs"):
                async with http.get(f"{service.url}{path}", headers={"Host": host}) as answer:
                    statuses[host, path] = answer.status
            async with http.post(f"{service.url}/events", headers={"Host": host}) as answer:
                statuses[host, "/events"] = answer.status
    own = {"/": 200, "/runs": 200, "/events": 415}
    assert statuses == {
        **{
            (f"{name}:{port}", path): own[path]
            for name in ("127.0.0.1", "localhost")
            for path in own
        },
        **{(name, path): 421 for name in (f"evil.example:{port}", "127.0.0.1") for path in own},
    }


async def test_send_says_that_no_service_listens() -> None:
    """`send` to an address without a service is one line that names the address, and exit code
    1."""
    ended = await run("send", "TENANT_PROVISIONING", "--url", UNREACHABLE, stdin=json.dumps(BASIC))
    assert ended.code == 1
    assert_one_line(ended)
    assert UNREACHABLE in ended.err


async def test_sigterm_ends_serve_well() -> None:
    """`serve` exits 0 on SIGTERM."""
    async with open_service(
        config="local.toml", environment={"ORCHESTRATOR_LEDGER__BACKEND": "memory"}
    ) as service:
        pass
    assert service.process.returncode == 0


async def test_the_demo_is_true() -> None:
    """The demo ends well with each of its checks passed, in lines of at most 80 columns."""
    ended = await run_alone("demo", columns=80)
    assert ended.code == 0, ended.out
    assert "✓" in ended.out
    assert "✗" not in ended.out
    assert [line for line in ended.out.splitlines() if len(line) > 80] == []
    sentence = "EventBridge delivers TENANT_PROVISIONING for Bluebird Logistics, tier STANDARD."
    assert sentence in " ".join(ended.out.split())  # broken at a word, not within one


@pytest.mark.parametrize("ends_by", [signal.SIGTERM, signal.SIGHUP])
async def test_a_demo_that_is_ended_leaves_no_service_behind(ends_by: signal.Signals) -> None:
    """A demo that is ended by a signal leaves no process behind, and its exit code shows the
    signal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orchestrator",
        "demo",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=child_environment({"COLUMNS": "100", "PYTHONUNBUFFERED": "1"}),
    )
    assert process.stdout is not None
    while (line := (await process.stdout.readline()).decode()) and "The service at" not in line:
        pass
    port = int(line.partition("http://127.0.0.1:")[2])
    process.send_signal(ends_by)
    said = (await process.stdout.read()).decode()
    assert await process.wait() == 128 + ends_by, said
    assert "Traceback" not in said
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


#: The pages whose addresses `dev` prints.
_SAID = ("Service", "Console", "API docs")


async def test_dev_prints_its_addresses() -> None:
    """`dev` prints the addresses of the service, its console and its documentation, and each is
    answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", "dev", "--port", port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment({}),
    )
    try:
        assert process.stdout is not None
        said: dict[str, str] = {}
        while not set(_SAID) <= said.keys():
            line = (await process.stdout.readline()).decode()
            assert line, said
            name, _, address = line.strip().rpartition(" ")
            said[name.strip()] = address
        async with aiohttp.ClientSession() as http:
            for name in _SAID:
                async with http.get(said[name]) as answer:
                    assert answer.status == 200, said[name]
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0
