"""`/readyz`: what it checks, how often, and what it answers to any sender."""

import asyncio

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import NotPermitted
from orchestrator.settings import Intake
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_problem
from tests.conftest import Client, StartService

REASON = (
    "User: arn:aws:sts::123456789012:assumed-role/orchestrator/i-1 is not authorized to perform "
    "dynamodb:Query on table/orchestrator-ledger"
)


@attrs.define(eq=False)
class CheckedLedger(InMemoryLedger):
    """A ledger that counts its checks, and whose answers a test may hold or fail."""

    checks: int = 0
    error: Exception | None = None
    answers: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def check(self) -> None:
        self.checks += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def ledger() -> CheckedLedger:
    ledger = CheckedLedger()
    ledger.answers.set()
    return ledger


@pytest.fixture
async def service(start_service: StartService, ledger: CheckedLedger) -> Client:
    return await start_service(ledger=ledger)


async def test_readiness_queries_the_ledger_at_most_once_a_second(
    service: Client, ledger: CheckedLedger, clock: ManualClock
) -> None:
    """The ledger is queried once a second at any rate of probes."""
    for expected in (1, 2):
        for _ in range(20):
            assert (await service.get("/readyz")).status == 200
        assert ledger.checks == expected
        clock.turn(1)


async def test_requests_at_once_share_one_check(
    start_service: StartService, settings: Settings, ledger: CheckedLedger, clock: ManualClock
) -> None:
    """Simultaneous probes share one check, which is cancelled when all of them time out, and
    repeated a second later."""
    hasty = attrs.evolve(settings, intake=Intake(deadline_s=0.05))
    service = await start_service(hasty, ledger=ledger)
    ledger.answers.clear()
    for answer in await asyncio.gather(*(service.get("/readyz") for _ in range(5))):
        assert "'ledger' is slow" in (await read_problem(answer, 503))["detail"]
    ledger.answers.set()
    await read_problem(await service.get("/readyz"), 503)
    assert ledger.checks == 1
    clock.turn(1)
    assert (await service.get("/readyz")).status == 200
    assert ledger.checks == 2


@pytest.mark.parametrize("error", [NotPermitted(REASON), RuntimeError(REASON)], ids=type)
async def test_a_failure_is_named_and_its_reason_logged(
    service: Client, ledger: CheckedLedger, clock: ManualClock, error: Exception
) -> None:
    """The answer names the failed check without its reason, which may name accounts, roles or
    tables and is logged once a second."""
    ledger.error = error
    with capture_logs() as lines:
        for _ in range(3):
            problem = await read_problem(await service.get("/readyz"), 503)
    assert problem["detail"] == "Not ready: the check 'ledger' failed."
    (line,) = [line for line in lines if line["event"] == "not ready"]
    assert line["check"] == "ledger"
    assert REASON in str(line)
    ledger.error = None
    clock.turn(1)
    assert (await service.get("/readyz")).status == 200
