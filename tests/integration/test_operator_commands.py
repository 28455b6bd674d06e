"""The operator's commands, run as child processes over an embedded AWS."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator import create_app
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import RunStatus
from orchestrator.embedded import CodeBuildStandIn, EmbeddedAWS, Fault, open_embedded_aws
from orchestrator.settings import Operations, child_environment, load_settings
from orchestrator.testing import ManualClock, provisioning_event
from tests import zygote
from tests.conftest import StartService
from tests.contracts.samples import later
from tests.contracts.samples import run as a_run
from tests.integration.commands import PATIENCE_S, Ended, assert_one_line, run


@pytest.fixture
async def here(aws: EmbeddedAWS) -> AsyncIterator[tuple[str, str]]:
    """The option that names a running service."""
    service = await zygote.start(
        *("orchestrator", "serve", "--config", "local.toml", "--port", "0"),
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({"ORCHESTRATOR_LOG__FORMAT": "json"}),
    )
    assert service.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b'"listening"' not in (line := await service.stderr.readline()):
                assert line, "it ended"
        yield ("--url", json.loads(line)["url"])
    finally:
        service.terminate()
        await service.communicate()


#: The one format of times, in UTC.
A_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def assert_no_link_twice(shown: str) -> None:
    links = re.findall(r"https?://\S+", shown)
    assert links
    assert len(links) == len(set(links))


async def provision(here: tuple[str, str], tenant_id: str, tier: str, folder: Path) -> Ended:
    event = folder / f"{tenant_id}.json"
    event.write_text(json.dumps(provisioning_event(tenant_id=tenant_id, tier=tier)["detail"]))
    return await run("send", "TENANT_PROVISIONING", str(event), *here, "--json")


async def test_tenants_are_listed_and_shown(here: tuple[str, str], tmp_path: Path) -> None:
    """A list has a line for each tenant; one tenant is shown with its operation and its timeline,
    and as JSON for machines."""
    assert await run("tenants", *here) == Ended(0, "no tenants\n", "")
    for tenant_id in ("t-1", "t-2"):
        assert (await provision(here, tenant_id, "BASIC", tmp_path)).code == 0
    listed = await run("tenants", *here, "--state", "provisioning", "--limit", "1")
    headings, line, more = listed.out.splitlines()
    assert headings.split() == ["TENANT", "STATE", "SINCE", "TIER", "WAITING"]
    assert re.fullmatch(f"t-1 +provisioning +{A_TIME} +BASIC +-", line)
    cursor = more.removeprefix("more: --cursor ")
    rest = json.loads((await run("tenants", *here, "--cursor", cursor, "--json")).out)
    assert ([tenant["tenantId"] for tenant in rest["items"]], rest["cursor"]) == (["t-2"], None)

    shown = await run("tenant", "t-1", *here)
    assert (shown.code, shown.err) == (0, "")
    for said in ("provisioning since", "CODE_BUILD", "basic-tenant:", "TENANT_PROVISIONING"):
        assert said in shown.out
    assert shown.out.startswith("tenant     t-1\n")
    # The fields of a start, its log's link among them, have their values in one column.
    matches = [re.match(r"    (start 1|run|job|log) +", line) for line in shown.out.splitlines()]
    fields = {found[1]: found.end() for found in matches if found}
    assert fields == dict.fromkeys(("start 1", "run", "job", "log"), len("    start 1  "))
    assert json.loads((await run("tenant", "t-1", *here, "--json")).out)["state"] == "provisioning"

    assert (await provision(here, "t-3", "NONE", tmp_path)).code == 1
    refused = await run("tenant", "t-3", *here)
    assert (refused.code, refused.err) == (0, "")
    for said in ("none: no operation yet", "failed", "'NONE'"):
        assert said in refused.out

    assert_one_line(await run("tenant", "nobody", *here), 1, "'nobody'")
    assert_one_line(await run("tenants", *here, "--limit", "0"), 2, "limit")


@asynccontextmanager
async def open_service_over(ledger: InMemoryLedger) -> AsyncIterator[tuple[str, str]]:
    """The option that names a service over that ledger."""
    settings = attrs.evolve(load_settings("local.toml"), operations=Operations(reconcile_every_s=0))
    async with TestServer(create_app(settings, ledger=ledger), host="127.0.0.1") as server:
        yield ("--url", str(server.make_url("/")))


async def test_lists_are_read_up_to_the_limit() -> None:
    """A list is read over short or empty pages; after many empty ones the command says that it
    stopped."""
    ledger = InMemoryLedger()
    rare, filters = {0, 700, 701, 11_800}, ("--type", "REFUND", "--status", "running")
    runs = [
        a_run(f"{n:05}", first_seen=later(n), event_type="REFUND" if n in rare else "ORDER")
        for n in range(12_000)
    ]
    await ledger.commit(runs, unchanged={})
    async with open_service_over(ledger) as here:
        first = await run("runs", *filters, "--limit", "1", *here)
        assert (first.code, first.err) == (0, "")
        _, line, more = first.out.splitlines()
        assert line.startswith("11800")
        stopped = await run("runs", *filters, *here)
        _, line, last_line, more = stopped.out.splitlines()
        assert line.startswith("11800")
        assert last_line == "stopped after 25 pages without matching runs"
        rest = await run("runs", *filters, *more.split()[1:], *here, "--json")
        page = json.loads(rest.out)
        assert [one["runId"] for one in page["items"]] == ["00701", "00700", "00000"]
        assert page["cursor"] is None
        many = json.loads((await run("runs", "--limit", "250", *here, "--json")).out)
        assert [one["runId"] for one in many["items"]] == [
            f"{n:05}" for n in range(11_999, 11_749, -1)
        ]
        assert many["cursor"] is not None


async def test_a_run_is_found_by_the_beginning_of_its_id() -> None:
    """A run is found by a prefix of its id among the latest runs or the latest failed ones; if
    several match they are named, and none is changed."""
    ledger = InMemoryLedger()
    runs = [a_run(f"{n:05}f", first_seen=later(n)) for n in range(1500)]
    failed = a_run("0ld1234", first_seen=later(0), status=RunStatus.FAILED)
    await ledger.commit([*runs, failed], unchanged={})
    async with open_service_over(ledger) as here:
        assert "run         01499f\n" in (await run("run", "01499", *here)).out
        assert "run         0ld1234\n" in (await run("run", "0ld1", *here)).out
        assert_one_line(await run("run", "0123", *here), 1, "'0123' begins the ids of several runs")
        assert_one_line(await run("replay", "0123", *here), 1, "01239f (")
        assert_one_line(await run("run", "00001", *here), 1, "one of the latest runs only")
        assert_one_line(await run("run", "014", *here), 1, "There is no run '014'.")


async def test_a_prefix_is_looked_for_in_a_bounded_number_of_requests() -> None:
    """A prefix is searched for in ten pages of the latest runs and ten of the latest failed ones,
    however many runs there are."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/runs":
            return web.json_response({"items": [], "cursor": "more"})
        return web.json_response({"detail": "There is no run 'abcd'."}, status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        ended = await run("run", "abcd", "--url", str(server.make_url("/")))
    assert_one_line(ended, 1, "There is no run 'abcd'.")
    assert asked == ["/runs/abcd", *["/runs"] * 20]


async def test_a_tenant_is_found_by_the_beginning_of_its_id(
    here: tuple[str, str], aws: EmbeddedAWS, tmp_path: Path
) -> None:
    """A tenant is found by a prefix of its id; a cancel by a prefix must be confirmed, so that a
    typing error never stops another tenant's operation."""
    for tenant_id in ("blue-1", "blue-10", "green-2"):
        assert (await provision(here, tenant_id, "BASIC", tmp_path)).code == 0
    assert (await run("tenant", "gree", *here)).out.startswith("tenant     green-2\n")
    assert (await run("tenant", "blue-1", *here)).out.startswith("tenant     blue-1\n")
    several = "'blue' begins the ids of several tenants: blue-1 (provisioning), blue-10 (prov"
    assert_one_line(await run("tenant", "blue", *here), 1, several)
    assert_one_line(await run("cancel", "blue", *here, "--yes"), 1, several)
    assert_one_line(await run("cancel", "green", *here), 1, "prefix of the tenant 'green-2'")
    assert not any(build.status == "STOPPED" for build in aws.codebuild.builds.values())
    cancelled = await run("cancel", "green", *here, "--yes")
    assert (cancelled.code, "`orchestrator tenant green-2`" in cancelled.out) == (0, True)


@pytest.mark.parametrize("ending", ["SUCCEEDED", "FAILED"])
async def test_send_waits_for_the_end_of_the_operation(
    here: tuple[str, str], aws: EmbeddedAWS, tmp_path: Path, ending: Literal["SUCCEEDED", "FAILED"]
) -> None:
    """`send --wait` says on standard error what it waits for, and its exit code is the operation's
    result."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(provisioning_event(tenant_id="t-1", tier="BASIC")["detail"]))
    sending = await zygote.start(
        *("orchestrator", "send", "TENANT_PROVISIONING", str(event), "--wait", *here),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({}),
    )
    assert sending.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        waits = (await sending.stderr.readline()).decode()
    assert waits.startswith("provisioning: waiting for CODE_BUILD basic-tenant:")
    (build,) = aws.codebuild.builds.values()
    aws.codebuild.finish(build.id, ending)
    state_change = tmp_path / "state_change.json"
    state_change.write_text(json.dumps(build.as_state_change()))
    assert (await run("send", "BUILD_STATE_CHANGE", str(state_change), *here)).code == 0
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await sending.communicate()
    assert sending.returncode == (0 if ending == "SUCCEEDED" else 1), out
    assert re.search(f"The provisioning {ending.lower()} at {A_TIME}[:.]", out.decode())


async def test_a_wait_that_takes_too_long_exits_124(here: tuple[str, str], tmp_path: Path) -> None:
    """A timeout exits 124, which differs from a failed operation; the operation continues."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(provisioning_event(tenant_id="t-1", tier="BASIC")["detail"]))
    sent = ("send", "TENANT_PROVISIONING", str(event), "--wait", "--timeout", "0", *here)
    timed_out = await run(*sent)
    assert (timed_out.code, timed_out.err) == (124, "It was not over within 0 s.\n")
    as_json = await run(*sent, "--json")
    shown = json.loads(as_json.out)
    assert (as_json.code, shown["timedOut"]) == (124, True)


@pytest.mark.parametrize("command", [("runs",), ("tenants",), ("tenant", "t-1")], ids=" ".join)
async def test_a_view_is_watched(
    here: tuple[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    """`--watch` prints the view as one line of JSON whenever it changes, until it is terminated."""
    assert (await provision(here, "t-1", "GOLD", tmp_path)).code == 1
    watching = await zygote.start(
        *("orchestrator", *command, *here, "--watch", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=child_environment({}),
    )
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            first = json.loads(await watching.stdout.readline())
            assert (await provision(here, "t-1", "BASIC", tmp_path)).code == 0
            assert json.loads(await watching.stdout.readline()) != first
    finally:
        watching.terminate()
        await watching.communicate()


async def test_runs_are_replayed(here: tuple[str, str], aws: EmbeddedAWS, tmp_path: Path) -> None:
    """Several runs are replayed at once; the result of each is shown, and one that was not handled
    makes the exit code 1."""
    failed = json.loads((await provision(here, "t-1", "GOLD", tmp_path)).out)["run"]["runId"]
    done = json.loads((await provision(here, "t-2", "BASIC", tmp_path)).out)["run"]["runId"]
    replayed = await run("replay", failed, done, *here, "--json")
    assert replayed.code == 1
    first, second = json.loads(replayed.out)
    assert (first["status"], first["run"]["status"], first["run"]["attempt"]) == (422, "failed", 2)
    assert "replay with force" in second["answer"]["detail"]
    listed = await run("tenants", *here, "--state", "none")
    assert re.search(f"\nt-1 +none +{A_TIME} +- +-\n", listed.out)
    timeline = (await run("tenant", "t-1", *here)).out
    assert re.search(f"\n +attempt 2: replayed by an operator at {A_TIME}\n", timeline)
    refused = await run("replay", done, *here)
    assert (refused.code, refused.err) == (1, "")
    assert "replay with force" in refused.out
    assert refused.out.startswith(f"The run {done} was not replayed (422): ")
    assert (await run("run", done, *here)).out.startswith(
        f"run         {done}\nstatus      succeeded"
    )

    forced = await run("replay", done, *here, "--force", "--json")
    assert forced.code == 1
    assert "goes on" in json.loads(forced.out)[0]["answer"]["detail"]
    assert len(aws.codebuild.builds) == 1
    missing = await run("replay", "nowhere", *here)
    assert missing.code == 1
    assert "There is no run 'nowhere'." in missing.out


async def test_an_open_operation_is_cancelled(
    here: tuple[str, str], aws: EmbeddedAWS, tmp_path: Path
) -> None:
    """An open operation is cancelled, with a reason that its tenant's timeline has; an ended one
    can't be."""
    await provision(here, "t-1", "BASIC", tmp_path)
    cancelled = await run("cancel", "t-1", *here, "--reason", "not wanted any more")
    assert (cancelled.code, cancelled.err) == (0, "")
    assert re.fullmatch(
        "Stopped the provisioning [0-9a-f]{40}; `orchestrator tenant t-1` shows the tenant's "
        "state. ",
        cancelled.out.replace("\n", " "),
    )
    shown = await run("tenant", "t-1", *here)
    assert "cleaning_up" in shown.out
    assert "Cancelled by an operator: not wanted any more." in shown.out
    assert_no_link_twice(shown.out)

    aws.codebuild.stops_at_once = False
    assert_one_line(await run("cancel", "t-1", *here), 1, "being cleaned up")
    slow = await run("cancel", "t-1", *here, "--clean-up", "--json")
    stopped = json.loads(slow.out)
    assert (slow.code, stopped["ended"], stopped["stopped"]["kind"]) == (0, False, "clean_up")
    again = await run("cancel", "t-1", *here, "--clean-up")
    what = f"clean_up {stopped['stopped']['operationId']}"
    later = "will be stopped; it ends once the builder says that its job is over."
    assert again.out.replace("\n", " ") == f"The {what} {later} "
    unknown = await run("cancel", "t-9", *here)
    assert_one_line(unknown, 1, "There is no tenant 't-9'.")
    await provision(here, "t-2", "GOLD", tmp_path)
    idle = await run("cancel", "t-2", *here)
    assert_one_line(idle, 1, "t-2")


async def test_reconcile_takes_up_what_is_due(
    codebuild: CodeBuildStandIn,
    aws: EmbeddedAWS,
    start_service: StartService,
    clock: ManualClock,
) -> None:
    """`reconcile` runs one sweep over the ledger's table, without any service."""
    settings = attrs.evolve(load_settings("local.toml"), operations=Operations(reconcile_every_s=0))
    clock.time = datetime.now(UTC) - timedelta(hours=1)
    service = await start_service(settings)
    del codebuild  # opened first, so that the variables name the other one
    aws.codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    assert (await service.post("/events", json=provisioning_event(tier="BASIC"))).status == 503
    assert not aws.codebuild.builds

    resumed = await run("reconcile", "--config", "local.toml")
    assert (resumed.code, resumed.out) == (0, "1 resumed\n"), resumed
    assert len(aws.codebuild.builds) == 1
    again = await run("reconcile", "--config", "local.toml")
    assert (again.code, again.out) == (0, "0 resumed\n")


async def test_init_makes_the_table_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` creates the table, and the second time says that it exists; a sweep without the table
    is one line and exit code 1."""
    async with open_embedded_aws() as aws:
        there = aws.environment()
        ended = await run("reconcile", **there)
        assert (ended.code, ended.out, "Traceback" in ended.err) == (1, "", False)
        assert "orchestrator-ledger" in ended.err
        made = await run("init", **there)
        assert (made.code, made.out) == (0, "created the ledger table orchestrator-ledger\n"), made
        again = await run("init", **there)
        assert (again.code, again.out) == (
            0,
            "the ledger table orchestrator-ledger already exists\n",
        )
        swept = await run("reconcile", **there)
        assert (swept.code, swept.out) == (0, "0 resumed\n"), swept


async def test_init_completes_a_table_that_was_there() -> None:
    """`init` says what it has added to an existing table, and adds nothing the next time."""
    async with open_embedded_aws() as aws:
        await aws.prepare(
            tier_table="tier-details",
            tiers=[],
            tables=[table_schema("orchestrator-ledger")],
            bus=None,
            projects=[],
        )
        there = "the ledger table orchestrator-ledger already exists\n"
        completed = await run("init", **aws.environment())
        assert (completed.code, completed.out) == (
            0,
            f"{there}created the expiry of the ledger table orchestrator-ledger\n",
        )
        again = await run("init", **aws.environment())
        assert (again.code, again.out) == (0, there)


async def test_init_of_a_ledger_in_memory_creates_no_table() -> None:
    """`init` of a ledger in memory creates no table, since it has none."""
    ended = await run("init", ORCHESTRATOR_LEDGER__BACKEND="memory")
    assert "already exists" not in ended.out


async def test_a_name_makes_no_line_of_its_own(here: tuple[str, str], tmp_path: Path) -> None:
    """A tenant's id with line breaks or escape sequences is printed escaped, so that a sender can't
    write to the terminal."""
    (tmp_path / "event.json").write_text('{"tenantId": "t\\n\\u001b[2J-odd", "tier": "BASIC"}')
    await run("send", "TENANT_PROVISIONING", str(tmp_path / "event.json"), *here)
    for command in (("tenants",), ("runs",), ("tenant", "t\n\x1b[2J-odd")):
        shown = await run(*command, *here)
        assert (shown.code, "\x1b" in shown.out) == (0, False)
        assert "t\\n\\x1b[2J-odd" in shown.out


async def test_tenants_of_a_file_are_adopted(here: tuple[str, str], tmp_path: Path) -> None:
    """Adopted tenants are listed by the service that runs beside the command; a broken line is
    named, and makes the exit code 1."""
    lines = [json.dumps({"id": f"t-{n}", "tier": "BASIC", "state": "active"}) for n in range(3)]
    file = tmp_path / "tenants.jsonl"
    file.write_text("\n".join((*lines, "{")))
    adopt = ("adopt", "--config", "local.toml", str(file))
    tried = await run(*adopt, "--dry-run")
    assert tried.out == "3 would be adopted, 0 known before, 1 refused\n"
    assert (await run("tenants", *here)).out == "no tenants\n"

    first = await run(*adopt)
    assert (first.code, first.out) == (1, "3 adopted, 0 known before, 1 refused\n")
    assert first.err.startswith("line 4: ")
    listed = json.loads((await run("tenants", *here, "--json")).out)["items"]
    assert [(one["tenantId"], one["state"], one["tier"]) for one in listed] == [
        (f"t-{n}", "active", "BASIC") for n in range(3)
    ]
    again = await run(*adopt)
    assert again.out.splitlines()[-1] == "0 adopted, 3 known before, 1 refused"
    assert "line 1: t-0 is known, as active with tier BASIC" in again.out
