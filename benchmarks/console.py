"""How soon the console paints, and shows its data, with a large ledger.

`python -m benchmarks.console` serves 10,000 tenants and 100,000 runs from memory, and opens each
view in a fresh context of Chromium. It fails if the first paint of one takes longer than a second
in the median. Browser and service share the machine's processors with all other processes.
"""

import argparse
import asyncio
import gc
import itertools
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from aiohttp import web
from playwright.async_api import Browser, async_playwright

from benchmarks.servers import Process, free_port
from orchestrator import Settings, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import InvalidPayload
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import Failure, Job, OperationState
from orchestrator.core.ledger.records import (
    OperationRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.logs import configure_logs
from orchestrator.settings import LedgerSettings

TENANTS, RUNS, ROUNDS = 10_000, 100_000, 3
GOAL_MS = 1000.0
#: The views, each with a selector of an element that exists once its data is shown.
VIEWS = {
    "/tenants": "table.tenants tbody tr",
    "/tenants?state=all": "table.tenants tbody tr",
    "/tenants?prefix=tenant-000": "table.tenants tbody tr",
    f"/tenants/{'tenant-000007'}": ".picture",
    "/runs": "table.runs tbody tr",
    "/runs?status=failed": "table.runs tbody tr",
    f"/runs/{7:040x}": ".facts",
}
_FILL_S = 300.0
_STATES = (*TenantState, None)
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.console", "--serve", str(port)]
        with Process(command, log=Path(folder, "log")) as service:
            service.wait_until_it_listens(port, seconds=_FILL_S)
            views = asyncio.run(measure(f"http://127.0.0.1:{port}/console"))
    print(f"{'view':<28} first paint    data   (ms, median of {ROUNDS}, and the slowest)")
    for view in views:
        print(view)
    slow = [view.path for view in views if statistics.median(view.paints_ms) > GOAL_MS]
    if slow:
        sys.exit(f"The first paint took longer than {GOAL_MS:.0f} ms: {', '.join(slow)}")


@attrs.define
class View:
    path: str
    paints_ms: list[float] = attrs.field(factory=list)
    data_ms: list[float] = attrs.field(factory=list)

    def __str__(self) -> str:
        paint, data = statistics.median(self.paints_ms), statistics.median(self.data_ms)
        slowest = f"({max(self.paints_ms):.0f}, {max(self.data_ms):.0f})"
        return f"{self.path[:28]:<28} {paint:11.0f} {data:7.0f}   {slowest}"


async def measure(console: str) -> list[View]:
    """Measure each view `ROUNDS` times, in a context with an empty cache."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("There is neither chromium nor google-chrome here: install one.")
    views = list(map(View, VIEWS))
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = await playwright.chromium.launch(executable_path=found, args=arguments)
        for _, view in itertools.product(range(ROUNDS), views):
            await _open(browser, console, view)
        await browser.close()
    return views


async def _open(browser: Browser, console: str, view: View) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    await page.goto(f"{console}#{view.path}", wait_until="commit")
    await page.locator(VIEWS[view.path]).first.wait_for()
    view.data_ms.append(await page.evaluate("() => performance.now()"))
    await page.wait_for_function(_PAINT)
    view.paints_ms.append(await page.evaluate(_PAINT))
    await context.close()


def serve(port: int) -> None:
    """The service over a large ledger in memory, without authentication, on this machine only."""
    configure_logs(level="error", layout="json", redact=SECRET_NAMES)
    ledger = InMemoryLedger()
    asyncio.run(_fill(ledger))
    settings = Settings(ledger=LedgerSettings(backend="memory"))
    app = create_app(settings, ledger=ledger)
    gc.collect()
    gc.freeze()  # as in `orchestrator.server`
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


async def _fill(ledger: InMemoryLedger) -> None:
    await ledger.commit(list(records(datetime.now(UTC))), unchanged={})
    await ledger.check()  # updates the indexes, as the timer's sweeps do


def records(now: datetime, *, tenants: int = TENANTS, runs: int = RUNS) -> Iterator[Record]:
    """The items of the ledger: tenants with an operation each, and runs over the last month."""
    for number in range(tenants):
        yield from _tenant(number, now - timedelta(seconds=60 * number + 60))
    for number in range(runs):
        yield _run(number, number % tenants, now - timedelta(seconds=26 * number + 30))


def _tenant(number: int, at: datetime) -> Iterator[Record]:
    tenant_id, state = _name(number), _STATES[number % len(_STATES)]
    is_held = state in (TenantState.PROVISIONING, TenantState.DEPLOYING, TenantState.CLEANING_UP)
    operation = OperationRecord(
        operation_id=f"{number:040x}",
        tenant_id=tenant_id,
        kind=Kind.DEPLOYMENT,
        request_key=f"request-{number}",
        opener=f"{number:040x}",
        state=OperationState.OPEN if is_held else OperationState.OVER,
        start_number=1,
        opened_at=at,
        tier="premium",
        job=Job(id=f"deploy:{number}", builder="CODE_BUILD", job_identifier="deploy"),
        job_since=at,
        ended_at=None if is_held else at + timedelta(seconds=50),
        succeeded=None if is_held else state is TenantState.ACTIVE,
    )
    yield operation
    yield TenantRecord(
        tenant_id=tenant_id,
        state=state,
        changed_at=at,
        operation_id=operation.operation_id if is_held else None,
        tier="premium",
        last_operation=None if is_held or state is None else operation.operation_id,
        reason="helm upgrade: timed out" if state and "failed" in state else None,
    )


def _run(number: int, tenant: int, at: datetime) -> RunRecord:
    has_failed = number % 20 == 0
    message = f"helm upgrade {number % 7}: timed out waiting for the condition"
    return RunRecord(
        run_id=f"{number:040x}",
        request_key=f"request-{number}",
        event_type="TENANT_DEPLOYMENT",
        source="control-plane",
        event_id=f"event-{number}",
        event_time=at,
        body_digest="digest",
        tenant_id=_name(tenant),
        status=RunStatus.FAILED if has_failed else RunStatus.SUCCEEDED,
        attempt=1,
        first_seen=at,
        started_at=at,
        ended_at=at + timedelta(seconds=20),
        operation_id=f"{tenant:040x}",
        error=Failure(type=InvalidPayload.__name__, message=message) if has_failed else None,
    )


def _name(number: int) -> str:
    return f"tenant-{number:06}"


if __name__ == "__main__":
    main()
