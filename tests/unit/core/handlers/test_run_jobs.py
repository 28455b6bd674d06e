"""The job that a handler starts in its run."""

import pytest

from orchestrator import Job, PermanentError, Run, TemporaryError
from tests.unit.core.handlers.order_desk import Desk


async def test_a_job_is_started_with_its_start_key_and_trace(desk: Desk) -> None:
    """The parameters go along with ORCHESTRATOR_RUN_ID, which is the start key, and TRACEPARENT."""

    async def act(run: Run) -> None:
        job = await run.start_job("build", {"A": 1})
        assert job == desk.builder.started[0].job

    record = await desk.deliver(act)
    (started,) = desk.builder.started
    assert record.job == started.job
    assert started.job.job_identifier == "build"
    assert started.params["A"] == 1
    assert started.params["ORCHESTRATOR_RUN_ID"] == started.start_key
    assert 0 < len(started.start_key) <= 64
    version, trace, span, flags = started.params["TRACEPARENT"].split("-")
    assert (version, flags) == ("00", "01")
    assert (len(trace), len(span)) == (32, 16)
    assert int(trace, 16) > 0
    assert int(span, 16) > 0


async def test_our_own_variables_cannot_be_overridden(desk: Desk) -> None:
    """An event that sets ORCHESTRATOR_RUN_ID or TRACEPARENT does not break the way back."""

    async def act(run: Run) -> None:
        await run.start_job("build", {"ORCHESTRATOR_RUN_ID": "mine", "TRACEPARENT": "mine"})

    await desk.deliver(act)
    (started,) = desk.builder.started
    assert started.params["ORCHESTRATOR_RUN_ID"] == started.start_key
    assert started.params["TRACEPARENT"] != "mine"


async def test_a_started_job_is_remembered(desk: Desk) -> None:
    """A later attempt gets the job back, and no second one is started."""
    jobs: list[Job | None] = []

    async def act(run: Run) -> None:
        jobs.append(await run.start_job("build", {}))
        if run.attempt == 1:
            raise TemporaryError("later")

    record = await desk.deliver(act, fails=TemporaryError)
    assert record.job == jobs[0]
    desk.builder.started.clear()  # a builder that has forgotten, as CodeBuild does in 5 minutes
    record = await desk.deliver(act)
    assert record.job == jobs[0] == jobs[1] is not None
    assert desk.builder.started == []


async def test_a_run_starts_one_job(desk: Desk) -> None:
    """A second start in one run is an error, as any step that is taken twice."""

    async def act(run: Run) -> None:
        await run.start_job("build", {})
        with pytest.raises(ValueError, match="taken twice"):
            await run.start_job("other", {})

    await desk.deliver(act)
    assert [started.job.job_identifier for started in desk.builder.started] == ["build"]


async def test_a_start_that_is_tried_again_is_the_same_start(desk: Desk) -> None:
    """A builder that refused once gets the same key, trace and parameters again."""

    async def act(run: Run) -> None:
        await run.start_job("build", {"A": 1}, builder="BUSY")

    assert (await desk.deliver(act, fails=TemporaryError)).job is None
    desk.clock.turn(600)
    await desk.deliver(act, fails=TemporaryError)
    first, second = desk.busy.asked
    assert first == second


async def test_two_events_are_two_starts(desk: Desk) -> None:
    """Another event has another start key and trace."""

    async def act(run: Run) -> None:
        await run.start_job("build", {})

    await desk.deliver(act)
    await desk.deliver(act, event_id="order-2")
    first, second = desk.builder.started
    assert first.start_key != second.start_key
    assert first.params["TRACEPARENT"] != second.params["TRACEPARENT"]


async def test_a_job_goes_to_the_builder_that_is_named(desk: Desk) -> None:
    """A name picks the builder; without one it is the default."""

    async def act(run: Run) -> None:
        await run.start_job("build", {}, builder="OTHER")

    record = await desk.deliver(act)
    assert record.job is not None
    assert record.job.builder == "OTHER"
    assert desk.builder.started == []


async def test_an_unknown_builder_is_refused_in_the_ancestors_words(desk: Desk) -> None:
    """The refusal names the field, what it says and which builders there are."""

    async def act(run: Run) -> None:
        await run.start_job("build", {}, builder="ANVIL")

    record = await desk.deliver(act, fails=PermanentError)
    assert record.error is not None
    assert record.error.message == "Invalid builder config provided."
    (mismatch,) = record.error.errors
    assert mismatch.path == "$.builderConfig.type"
    for name in ("'ANVIL'", "CODE_BUILD", "IN_MEMORY", "OTHER"):
        assert name in mismatch.message


async def test_a_builder_may_have_no_job_to_show(desk: Desk) -> None:
    """A builder that returns None has started something that only its start key names."""

    async def act(run: Run) -> None:
        job = await run.start_job("build", {}, builder="NONE")
        assert run.job == job

    job = (await desk.deliver(act)).job
    assert job is not None
    assert (job.builder, job.job_identifier, job.log_url) == ("NONE", "build", None)
