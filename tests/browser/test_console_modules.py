"""The console's modules alone: words for times, causes, the axis, an operation's starts."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Page

from tests.conftest import Client

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: A time on a full hour, in milliseconds: 29 November 2026, 12:00 UTC.
NOON = 1_795_953_600_000

DURATIONS = {
    -5: "0 s",
    820: "820 ms",
    4200: "4.2 s",
    42_000: "42 s",
    6 * MINUTE + 12_000: "6 min 12 s",
    9 * MINUTE: "9 min",
    42 * MINUTE + 59_000: "42 min",
    71 * MINUTE: "1 h 11 min",
    2 * HOUR: "2 h",
    DAY + 3 * HOUR: "1 d 3 h",
    78 * DAY: "78 d",
}
CAUSES = {
    "The tenant hooli is already active": "The tenant … is already active",
    "No such CodeBuild project: deploy": "No such CodeBuild project: deploy",
    "build 0f3a2b1c-1111-4222-8333-0123456789ab failed": "build … failed",
    None: "no reason was kept",
}
#: The headers that a key is sent in, by the challenge of a 401.
CREDENTIALS = {
    'ApiKey header="x-api-key"': {"x-api-key": "k:1"},
    'ApiKey header="x-team-key"': {"x-team-key": "k:1"},
    'Bearer realm="orchestrator"': {"Authorization": "Bearer k:1"},
    'Basic realm="orchestrator"': {"Authorization": "Basic azox"},
    'ApiKey header="x-api-key", Bearer': {"x-api-key": "k:1", "Authorization": "Bearer k:1"},
    "": {"x-api-key": "k:1"},
}


@pytest.fixture
async def modules(page: Page, service: Client) -> Page:
    """A page from which the modules can be imported."""
    await page.goto(str(service.make_url("/console")))
    return page


async def call(page: Page, module: str, expression: str, *given: Any) -> Any:
    """The value of an expression with the names of a module, and the arguments as `given`."""
    return await page.evaluate(
        f"""async (given) => {{
          const m = await import(new URL("console/{module}", location));
          return {expression};
        }}""",
        list(given),
    )


async def test_times_and_durations_are_short_and_have_units(modules: Page) -> None:
    """Durations have at most two units; a time has the clock's form today, the day on another day,
    and the year in another year."""
    said = await call(modules, "words.js", "given.map(m.lasted)", *DURATIONS)
    assert dict(zip(DURATIONS, said, strict=True)) == DURATIONS
    times = [NOON, NOON - 2 * DAY, NOON - 400 * DAY]
    texts = await call(modules, "words.js", "given.map((at) => m.stamp(at, given[0]))", *times)
    assert texts == ["12:00:00", "27 Nov 12:00", "25 Oct 2025"]


async def test_runs_with_one_cause_are_one_group(modules: Page) -> None:
    """Runs whose reasons differ only in the tenant are one group."""
    runs = [{"tenantId": "hooli", "reason": reason} for reason in CAUSES]
    said = await call(modules, "model.js", "given.map(m.causeOf)", *runs)
    assert dict(zip(CAUSES, said, strict=True)) == CAUSES


async def test_quiet_stretches_are_folded_and_time_stays_in_order(modules: Page) -> None:
    """Quiet stretches are folded, whether there are few busy ones or many; a later time is never
    drawn before an earlier one, and nothing beyond the width."""
    axis = "((ax) => [ax.parts, ax.folds, given[3].map(ax.place)])(m.makeAxis(...given))"
    for number in (1, 2, 10, 40):
        begin = NOON - number * 9 * DAY
        busy = [[begin + n * 9 * DAY, begin + n * 9 * DAY + 10 * MINUTE] for n in range(number)]
        busy.append([NOON - MINUTE, NOON])
        times = [begin + n * DAY // 4 for n in range(number * 36)]
        for room in (300, 1100):
            drawn = axis.replace("...given", f"given[0], given[1], given[2], {room}")
            found = await call(modules, "axis.js", drawn, busy, begin, NOON, times)
            parts, folds, places = found
            assert (len(parts), len(folds)) == (number + 1, number)
            assert parts[-1]["x1"] == pytest.approx(room)
            assert all(one["x1"] > one["x0"] for one in (*parts, *folds))
            assert all(one <= other for one, other in pairwise(places))
            assert 0 <= places[0] <= places[-1] <= room
    parts, folds, _ = await call(
        modules, "axis.js", axis.replace("...given", "given[0], given[1], given[2], 1000"),
        [[NOON - HOUR, NOON]], NOON - HOUR, NOON, [],
    )  # fmt: skip
    assert (len(parts), folds) == (1, [])


async def test_an_operation_without_its_starts_is_one_start(modules: Page) -> None:
    """A summary of an operation has enough for one lane: begin, job, end and reason."""
    operation = {
        "operationId": "o-1",
        "tenantId": "hooli",
        "kind": "deployment",
        "state": "over",
        "runId": "r-1",
        "startNumber": 2,
        "openedAt": "2026-11-28T12:00:00+00:00",
        "endedAt": "2026-11-28T12:10:00+00:00",
        "succeeded": False,
        "reason": "exit status 1",
        "job": {"id": "b-1", "builder": "CODE_BUILD", "jobIdentifier": "deploy", "logUrl": None},
        "jobSince": "2026-11-28T12:00:02+00:00",
    }
    drawn = await call(modules, "model.js", "m.operationOf(given[0])", operation)
    (start,) = drawn["starts"]
    assert (start["number"], start["reason"]) == (2, "exit status 1")
    assert start["job"]["to"] - start["job"]["from"] == 10 * MINUTE - 2000
    assert start["job"]["status"] == "FAILED"


async def test_a_key_is_sent_as_the_service_has_asked_for_it(modules: Page) -> None:
    """A key is sent in the header that the 401's challenge names, by each method that it names."""
    for challenge, headers in CREDENTIALS.items():
        await call(modules, "api.js", 'm.keepKey("k:1", given[0])', challenge)
        kept = await modules.evaluate('JSON.parse(sessionStorage.getItem("credentials"))')
        assert kept == headers, challenge


async def test_a_log_link_leads_to_the_web_alone(modules: Page) -> None:
    """A log link of another scheme than http and https isn't shown as a link."""
    for url, is_link in (("https://logs.example/1", True), ("javascript:alert(1)", False)):
        made = await call(modules, "dom.js", "m.outside(given[0], 'log') !== null", url)
        assert made is is_link


async def test_steps_become_named_bars_where_their_attempt_has_the_room(modules: Page) -> None:
    """The steps of the last attempt are named bars where there is room; in a whole life they are
    too short, and are counted."""
    steps = [
        {"name": "reserve", "startedAt": at(1), "recordedAt": at(2)},
        {"name": "notify", "startedAt": at(61), "recordedAt": at(70)},
        {"name": "store", "startedAt": at(70), "recordedAt": at(90)},
    ]
    attempts = [
        {"number": 1, "startedAt": at(0), "endedAt": at(3), "how": "retry", "reason": "busy"},
        {"number": 2, "startedAt": at(60), "endedAt": at(100), "how": "succeeded"},
    ]
    run = {"runId": "r", "at": at(0), "status": "succeeded", "eventType": "TENANT_DEPLOYMENT"}
    start = {"number": 1, "openedAt": at(0), "endedAt": at(110), "state": "over"}
    operation = {"operationId": "o", "runId": "r", "openedAt": at(0), "starts": [start]}
    tenant = {
        "tenantId": "t",
        "timeline": [{**run, "steps": steps, "attempts": attempts}],
        "operations": [operation],
    }
    drawn = """await (async ([tenant, from, to]) => {
      const { lifeOf } = await import(new URL("console/model.js", location));
      const { makeAxis } = await import(new URL("console/axis.js", location));
      const row = m.runRow(lifeOf(tenant).rows[0].starts, makeAxis([], from, to, 800), 0, to);
      const made = row.flat(9).filter(Boolean);
      const bars = made.filter((node) => node.matches(".bar.step")).length;
      return [bars, made.map((node) => node.textContent).filter(Boolean)];
    })(given)"""
    begun = NOON + 60_000
    bars, texts = await call(modules, "marks.js", drawn, tenant, begun - 1000, begun + 42_000)
    assert (bars, texts[:2]) == (2, ["notify 9.0 s", "store 20 s"])
    bars, texts = await call(modules, "marks.js", drawn, tenant, NOON - DAY, NOON + DAY)
    assert (bars, [text for text in texts if "store" in text]) == (0, [])


async def test_each_start_has_its_own_end_in_the_states(modules: Page) -> None:
    """Each start has its own end in the states: a provisioning that is replayed by force was
    provisioned before, and a start that never began changed nothing."""
    first = {"number": 1, "openedAt": at(0), "endedAt": at(100), "state": "over"}
    second = {"number": 2, "openedAt": at(200), "endedAt": None, "state": "open"}
    drawn = """await (async ([first, second, now]) => {
      const { operationOf } = await import(new URL("console/model.js", location));
      const starts = [first, second];
      const row = operationOf({ operationId: "o", runId: "r", tenantId: "t", state: "open",
        kind: "provisioning", openedAt: second.openedAt, starts });
      const how = { span: "", room: 800, now, opened: new Map(), toggle: null, more: false };
      return m.picture([row], how).querySelector("[aria-label^=State]").ariaLabel;
    })(given)"""
    ends: list[tuple[dict[str, Any], list[str]]] = [
        ({"succeeded": True}, ["provisioning", "provisioned", "provisioning"]),
        ({"succeeded": False}, ["provisioning", "provision failed", "provisioning"]),
        ({"succeeded": None, "state": "given_back"}, ["provisioning"]),
    ]
    for end, states in ends:
        label = await call(modules, "picture.js", drawn, first | end, second, NOON + 300_000)
        assert re.findall("(?:State: |, )([a-z ]+) from", label) == states


def at(seconds: int) -> str:
    return datetime.fromtimestamp(NOON / 1000 + seconds, UTC).isoformat()
