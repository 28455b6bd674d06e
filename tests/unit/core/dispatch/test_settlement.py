"""How an attempt is settled, by what its handler did, and which error its sender gets."""

from typing import Any

import attrs
import pytest

from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.dispatch.settlement import (
    is_final,
    is_used_up,
    settlement_of,
    with_outcome,
)
from orchestrator.core.errors import HandlerFailed, PayloadMismatch, PermanentError, TemporaryError
from orchestrator.core.events.event import OWN_SOURCE, Event
from orchestrator.core.events.event_types import ENDS, OPENS, Kind
from orchestrator.core.events.json_text import kept_size
from orchestrator.core.handlers.run import EndWithoutJob, Run
from orchestrator.core.handlers.services import Services
from orchestrator.core.identifiers import START_KEY
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Report
from orchestrator.core.ledger.records import RunStatus
from orchestrator.core.ledger.settle import Settlement
from tests.desk import (
    DEPLOYMENT,
    NOT_PROVISIONED,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
)

MAX_ATTEMPTS = 3
#: What an item of the ledger has room for.
ROOM_BYTES = 100_000
REPORT = Report(url="https://cp.example/webhook", body={"x": 1})
NO, LATER, BUG = PermanentError("no"), TemporaryError("later"), ValueError("a bug")


@attrs.define
class Attempt:
    """A claimed run, whose handler has returned or raised."""

    lease: RunLease
    run: Run
    event: Event[Any]

    def judge(self, error: BaseException | None = None) -> tuple[Settlement, BaseException | None]:
        opens = OPENS.get(self.event.type)
        return settlement_of(self.event, self.lease, self.run, opens, error, MAX_ATTEMPTS)

    def settled(self, error: BaseException | None = None) -> Settlement:
        return self.judge(error)[0]


async def attempt(
    desk: Desk, event_type: str = PROVISIONING, *, bugs: int = 0, **options: Any
) -> Attempt:
    lease = await desk.claimed(event_type, "a", **options)
    lease.run = attrs.evolve(lease.run, bugs=bugs)
    unused: Any = None
    services = Services(
        transactions=desk.transactions,
        tiers=unused,
        builders={},
        default_builder="IN_MEMORY",
        publisher=unused,
        structure=unused,
        webhook=unused,
        notifications=BUILT_IN_NOTIFICATIONS,
        clock=desk.clock,
    )
    run = Run(lease, services, OPENS.get(event_type))
    return Attempt(lease, run, desk.request(event_type, "a", **options).event)


# --- what ends a run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "bugs", "ends"),
    [(None, 0, True), (NO, 0, True), (LATER, 9, False), (BUG, 1, False), (BUG, 2, True)],
)
async def test_an_error_ends_a_run_if_no_retry_follows(
    desk: Desk, error: BaseException | None, bugs: int, ends: bool
) -> None:
    """A temporary one never does, a bug with the last attempt."""
    assert is_final(error, (await attempt(desk, bugs=bugs)).lease, MAX_ATTEMPTS) is ends


@pytest.mark.parametrize(("bugs", "may_be_out"), [(3, True), (3, False), (2, True)])
async def test_a_run_is_used_up_by_its_last_bug_beside_a_possible_start(
    desk: Desk, bugs: int, may_be_out: bool
) -> None:
    """Where no start can be out, a failed run that is delivered again is attempted again."""
    lease = (await attempt(desk, bugs=bugs)).lease
    lease.possible_start = PossibleStart(SENT_AT) if may_be_out else None
    assert is_used_up(lease, MAX_ATTEMPTS) is (bugs == 3 and may_be_out)


@pytest.mark.parametrize(
    ("error", "status"), [(NO, RunStatus.FAILED), (BUG, RunStatus.RETRY), (LATER, RunStatus.RETRY)]
)
async def test_only_the_last_bug_is_retried_beside_a_possible_start(
    desk: Desk, error: Exception, status: RunStatus
) -> None:
    """A refusal is final: the write that ends the operation finds whether a start is out."""
    one = await attempt(desk, bugs=MAX_ATTEMPTS - 1)
    assert one.settled(BUG).status is RunStatus.FAILED
    one.lease.possible_start = PossibleStart(SENT_AT)
    assert one.settled(error).status is status
    assert one.settled(error).possible_start == one.lease.possible_start


@pytest.mark.parametrize("event_type", [PROVISIONING, ORDER])
async def test_only_a_failed_opener_ends_its_operation_and_reports_the_refusal(
    desk: Desk, event_type: str
) -> None:
    """An event that opens no operation has nothing to give back."""
    one = await attempt(desk, event_type)
    one.run.reports = REPORT
    settlement, answer = one.judge(NO)
    opens = event_type == PROVISIONING
    assert (settlement.ends_without_job, settlement.report) == (opens, REPORT if opens else None)
    assert (answer, NO.run_id) == (NO, one.run.run_id)


async def test_the_answer_to_a_bug_does_not_quote_its_message(desk: Desk) -> None:
    """The ledger has it, with the traceback."""
    settlement, answer = (await attempt(desk)).judge(BUG)
    assert isinstance(answer, HandlerFailed)
    assert "a bug" not in str(answer)
    assert settlement.error is not None
    assert (settlement.error.type, settlement.error.message) == ("ValueError", "a bug")
    assert settlement.error.is_bug


# --- what a handler did -------------------------------------------------------------------------


@pytest.mark.parametrize("is_dry", [True, False])
async def test_a_runs_note_names_the_job_that_it_started(desk: Desk, is_dry: bool) -> None:
    """Or would have started, in a dry run; beside the handler's own notes."""
    one = await attempt(desk)
    one.run.note("Ready.")
    one.run.job = attrs.evolve(desk.job("b-1"), request={"job": "up"} if is_dry else None)
    was = "would have been" if is_dry else "was"
    settlement = one.settled()
    assert settlement.note == f"Ready. The job b-1 {was} started on IN_MEMORY."
    assert (settlement.ends_without_job, settlement.follow_ups) == (False, ())


@pytest.mark.parametrize(
    ("event_type", "ending", "outcome"),
    [
        (PROVISIONING, None, None),
        (PROVISIONING, EndWithoutJob(None), "TENANT_PROVISIONING_SUCCESS"),
        (PROVISIONING, EndWithoutJob("no room"), "TENANT_PROVISIONING_FAILURE"),
        (DEPLOYMENT, None, "TENANT_DEPLOYMENT_SUCCESS"),
        (DEPLOYMENT, EndWithoutJob("no room"), "TENANT_DEPLOYMENT_FAILURE"),
        (ORDER, EndWithoutJob(None), None),
    ],
)
async def test_an_operation_without_a_job_ends_by_its_handler(
    desk: Desk, event_type: str, ending: EndWithoutJob | None, outcome: str | None
) -> None:
    """A deployment without a job has nothing to wait for; any other stays open until it is
    ended."""
    one = await attempt(desk, event_type)
    one.run.ending = ending
    settlement = one.settled()
    assert settlement.ends_without_job is (outcome is not None)
    assert [after.event.type for after in settlement.follow_ups] == ([outcome] if outcome else [])


async def test_an_outcome_of_our_own_is_known_by_the_start_that_it_ends(desk: Desk) -> None:
    """It has the request's body, without what only our own events may say, and names its start."""
    body = {"tenantId": TENANT, "extra": 1, "endedJob": {"id": "forged"}}
    one = await attempt(desk, body=body, by_content=True)
    one.event = attrs.evolve(one.event, sent_as="onboardingRequest")
    one.run.ending = EndWithoutJob("no room")
    (after,) = one.settled().follow_ups
    outcome, key = after.event, one.lease.start_key
    assert (outcome.source, outcome.id, outcome.ends_start) == (OWN_SOURCE, key, key)
    assert (outcome.sent_as, outcome.identified_by_content) == (None, False)
    assert outcome.body == {
        "tenantId": TENANT,
        "extra": 1,
        "reason": "no room",
        "operationId": one.lease.run.operation_id,
        START_KEY: key,
    }
    assert outcome.raw == outcome.payload == outcome.body
    assert after.tenant_id == TENANT


# --- what an outcome ends ------------------------------------------------------------------------


async def outcome_of(
    desk: Desk, event_type: str, body: dict[str, Any], *, is_own: bool = False, source: str = "cp"
) -> tuple[Attempt, Settlement]:
    """An outcome's attempt, and its settlement as succeeded."""
    await desk.provision("opener")
    one = await attempt(desk, event_type, body={"tenantId": TENANT, **body}, source=source)
    one.event = attrs.evolve(one.event, ends_start="start-1" if is_own else None)
    one.run.reports, one.run.owes = REPORT, attrs.evolve(REPORT, body={})
    one.run.cleans_up = {"tenantId": TENANT}
    ending, common = ENDS[event_type], Settlement(status=RunStatus.SUCCEEDED, note="Reported.")
    return one, with_outcome(common, one.event, one.run, ending, "start-of-the-outcome")


async def test_the_settlement_of_an_outcome_has_all_that_its_handler_requested(desk: Desk) -> None:
    """The end, the tier, the reports, and the clean-up under the key of the outcome's start."""
    one, settlement = await outcome_of(desk, NOT_PROVISIONED, {"tier": "BASIC"})
    assert (settlement.ending, settlement.tier) == (ENDS[NOT_PROVISIONED], "BASIC")
    assert (settlement.report, settlement.owed) == (one.run.reports, one.run.owes)
    assert settlement.clean_up is not None
    clean_up = settlement.clean_up.event
    assert (clean_up.type, clean_up.source) == ("TENANT_CLEAN_UP", OWN_SOURCE)
    assert (clean_up.id, clean_up.ends_start) == ("start-of-the-outcome",) * 2
    assert OPENS[clean_up.type] is Kind.CLEAN_UP


@pytest.mark.parametrize(
    ("event_type", "body", "source", "reason"),
    [
        (PROVISIONED, {"reason": "all is well"}, "cp", None),
        (NOT_PROVISIONED, {"reason": "no quota"}, "cp", "no quota"),
        (NOT_PROVISIONED, {}, "cp", f"{NOT_PROVISIONED} was reported by cp."),
        (NOT_PROVISIONED, {}, "", f"{NOT_PROVISIONED} was reported."),
        (NOT_PROVISIONED, {"reason": "y" * 3000}, "cp", "y" * 2000 + "…"),
    ],
)
async def test_only_a_failure_has_a_reason(
    desk: Desk, event_type: str, body: dict[str, Any], source: str, reason: str | None
) -> None:
    """A failure has its report's own reason, else names the report's source; the note has it."""
    _, settlement = await outcome_of(desk, event_type, body, source=source)
    assert settlement.reason == reason
    assert settlement.note == " ".join(filter(None, (reason, "Reported.")))


@pytest.mark.parametrize(
    ("status", "is_own", "said"),
    [
        ("SUCCEEDED", True, "The job b-1 succeeded. "),
        ("UNKNOWN", True, "The job b-1 reported success; JENKINS doesn't know it any more. "),
        ("SUCCEEDED", False, ""),
    ],
)
async def test_a_successs_note_names_the_job_that_has_ended(
    desk: Desk, status: str, is_own: bool, said: str
) -> None:
    """The note says how the job ended, by its builder or itself; a foreign event's is ignored."""
    body = {"endedJob": {"id": "b-1", "builder": "JENKINS", "status": status}}
    _, settlement = await outcome_of(desk, PROVISIONED, body, is_own=is_own)
    assert settlement.note == f"{said}Reported."


# --- what fits into an item ----------------------------------------------------------------------


async def test_mismatches_are_kept_as_far_as_there_is_room(desk: Desk) -> None:
    """As many of the first mismatches are kept as there is room for, each of them short."""
    errors = [PayloadMismatch(f"$.{number}", "y" * 3000) for number in range(100)]
    error = (await attempt(desk)).settled(PermanentError("no", errors=errors)).error
    assert error is not None
    kept = sum(kept_size([one.path, one.message]) for one in error.errors)
    assert 0.9 * ROOM_BYTES < kept <= ROOM_BYTES
    assert [one.path for one in error.errors] == [f"$.{n}" for n in range(len(error.errors))]


async def test_a_traceback_is_kept_as_far_as_there_is_room(desk: Desk) -> None:
    """Its last lines, which say most: the innermost frame and the error itself."""
    bug = ValueError("a bug")
    for number in range(100):
        bug.add_note(f"{number}: " + "€" * 3000)
    error = (await attempt(desk)).settled(bug).error
    assert error is not None
    assert error.traceback is not None
    assert 0.3 * ROOM_BYTES < kept_size(error.traceback) <= ROOM_BYTES
    assert "99: €" in error.traceback
