"""What an attempt results in: outcomes, reports, and pauses before the next one."""

from typing import Any

import attrs

from orchestrator import Event, HandlerFailed, PermanentError, Run, TemporaryError
from orchestrator.core.ledger.records import RunRecord, RunStatus
from orchestrator.testing import ManualClock, envelope
from tests.unit.core.dispatch.lost_answers import DONE, ORDER, URL, complete, opened, stay

# --- what an attempt results in ------------------------------------------------------------------


async def test_a_report_is_sent_with_the_settle_of_its_outcome(clock: ManualClock) -> None:
    """The report of the operation that the event ended is sent without a sweep."""

    async def report(event: Event[Any], run: Run) -> None:
        run.report(succeeded=True, url=URL)

    handlers: dict[str, Any] = {"TENANT_PROVISIONING": stay, "TENANT_PROVISIONING_SUCCESS": report}
    async with opened(clock, **handlers) as scene:
        await scene.send()
        assert await scene.send(DONE) is None
        assert scene.webhook.urls == [URL]
        assert scene.operation.report is not None
        assert scene.operation.report.was_accepted


@attrs.frozen(kw_only=True)
class Counted:
    tenantId: str  # noqa: N815 - the body's
    count: int = 0
    tenant: int = 0


@attrs.frozen(kw_only=True)
class Demanding:
    needed: int


async def test_an_outcome_of_our_own_counts_whatever_its_handlers_model(clock: ManualClock) -> None:
    """The run fails, and the operation is over all the same."""
    handlers: dict[str, Any] = {
        "TENANT_PROVISIONING": complete,
        "TENANT_PROVISIONING_SUCCESS": stay,
    }
    models = {"TENANT_PROVISIONING_SUCCESS": Demanding}
    async with opened(clock, models=models, **handlers) as scene:
        assert await scene.send() is None
        outcome = scene.run("TENANT_PROVISIONING_SUCCESS")
        assert (outcome.status, scene.operation.state) == ("failed", "over")


async def test_a_foreign_outcome_that_does_not_fit_its_model_ends_nothing(
    clock: ManualClock,
) -> None:
    """The operation stays open, since the handler has not been called."""
    handlers: dict[str, Any] = {"TENANT_PROVISIONING": stay, "TENANT_PROVISIONING_SUCCESS": stay}
    models = {"TENANT_PROVISIONING_SUCCESS": Demanding}
    async with opened(clock, models=models, **handlers) as scene:
        await scene.send()
        assert isinstance(await scene.send(DONE), PermanentError)
        assert scene.run("TENANT_PROVISIONING_SUCCESS").status == "failed"
        assert scene.operation.state == "open"


async def test_an_outcome_of_the_services_own_start_fits_without_odd_fields(
    clock: ManualClock,
) -> None:
    """They are left out; of a foreign event they are a mismatch. The tenant stays."""
    seen = list[Counted]()

    async def see(event: Event[Counted], run: Run) -> None:
        seen.append(event.payload)

    async def clean(event: Event[Any], run: Run) -> None:
        run.clean_up({"count": "many"})

    async def fail(event: Event[Any], run: Run) -> None:
        run.fail("no room")

    handlers: dict[str, Any] = {
        "TENANT_PROVISIONING": fail,
        "TENANT_PROVISIONING_FAILURE": clean,
        "TENANT_CLEAN_UP": see,
        "ORDER": see,
    }
    models = {"TENANT_CLEAN_UP": Counted, "ORDER": Counted}
    async with opened(clock, models=models, **handlers) as scene:
        assert await scene.send() is None
        assert seen == [Counted(tenantId="t-1")]
        odd = {"tenant": {"id": "t-2"}, "count": "many"}
        answer = await scene.send(envelope("ORDER", {"tenantId": "t-2", **odd}, event_id="o-1"))
        assert isinstance(answer, PermanentError)
        known = {"ORCHESTRATOR_RUN_ID": "x-1"}
        assert await scene.send(envelope("ORDER", {**odd, **known}, event_id="o-2")) is None
        assert seen[1:] == [Counted(tenantId="t-2")]


async def test_an_outcome_that_names_nothing_of_ours_calls_no_handler(clock: ManualClock) -> None:
    """It has an unknown start key, and no tenant: the run says so."""
    seen = list[Event[Any]]()

    async def see(event: Event[Any], run: Run) -> None:
        seen.append(event)

    stranger = envelope("TENANT_PROVISIONING_SUCCESS", {"ORCHESTRATOR_RUN_ID": f"{'0' * 32}-1"})
    async with opened(clock, TENANT_PROVISIONING_SUCCESS=see) as scene:
        assert await scene.send(stranger) is None
        assert seen == []
        assert "no job of this service" in (scene.run("TENANT_PROVISIONING_SUCCESS").note or "")


async def test_a_request_without_a_tenant_opens_nothing_that_could_end(clock: ManualClock) -> None:
    """A handler that ends it has a bug."""
    async with opened(clock, TENANT_PROVISIONING=complete) as scene:
        assert isinstance(await scene.send(envelope("TENANT_PROVISIONING", {})), HandlerFailed)
        run = scene.run()
        assert run.error is not None
        assert "opened no operation" in run.error.message


async def test_a_cancelled_request_calls_no_handler_again(clock: ManualClock) -> None:
    """The run is resumed for its end alone."""
    calls = list[int]()

    async def handler(event: Event[Any], run: Run) -> None:
        calls.append(run.attempt)
        raise TemporaryError("not now")

    async with opened(clock, TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        stopped = await scene.orchestrator.cancel("t-1", reason="not wanted")
        assert stopped.has_ended
        assert (calls, scene.run().status) == ([1], "failed")
        assert scene.run().was_cancelled
        assert await scene.is_free()


async def test_pauses_double_and_are_bounded(clock: ManualClock) -> None:
    """The pauses after waits and bugs double, and a pause that an error names is bounded."""
    pause: float | None = None
    error: type[Exception] = TemporaryError

    async def handler(event: Event[Any], run: Run) -> None:
        raise TemporaryError("no", retry_after_s=pause) if error is TemporaryError else error("no")

    async def pause_s(event_type: str) -> float:
        (run,) = scene.all(RunRecord)
        assert (run.event_type, run.status) == (event_type, RunStatus.RETRY)
        return float((run.due_at - clock.now()).total_seconds())

    async with opened(clock, ORDER=handler) as scene:
        for expected in (5.0, 10.0, 20.0):
            await scene.send(ORDER)
            assert await pause_s("ORDER") == expected
        pause = 1e12
        await scene.send(ORDER)
        assert await pause_s("ORDER") == 30 * 86_400
        error = ValueError
        for expected in (5.0, 10.0):
            await scene.send(ORDER)
            assert await pause_s("ORDER") == expected
