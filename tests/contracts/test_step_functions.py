"""What is Step Functions' own about the builder for it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from orchestrator import PermanentError, TemporaryError
from orchestrator.adapters.step_functions.builder import StepFunctionsBuilder, execution_arn
from orchestrator.core.checkable import Checkable
from orchestrator.core.errors import NotPermitted, QuotaReached
from orchestrator.core.jobs.job_description import SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job
from orchestrator.embedded import Fault
from tests.aws import aws_session
from tests.step_functions.stand_in import StepFunctionsStandIn, open_step_functions

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FOREIGN = "arn:aws:states:us-east-1:123456789012:stateMachine:gone"


@attrs.frozen
class Bench:
    aws: StepFunctionsStandIn
    builder: StepFunctionsBuilder

    @property
    def starts(self) -> int:
        return sum(action == "StartExecution" for action, _ in self.aws.calls)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    session = aws_session()
    async with (
        open_step_functions() as aws,
        session.client("stepfunctions", endpoint_url=aws.url) as client,
    ):

        async def opened() -> Any:
            return client

        machines = {
            "up": aws.add_machine("provision"),
            "other": aws.add_machine("other"),
            "quick": aws.add_machine("quick", "EXPRESS"),
            "gone": FOREIGN,
        }
        yield Bench(aws, StepFunctionsBuilder(opened, name="SFN", state_machines=machines))


async def test_the_input_is_the_parameters_as_javascript_prints_them(bench: Bench) -> None:
    """Sorted, so that a repeated start is the same; None is left out; references stay objects."""
    reference = {"type": "SECRETS_MANAGER", "value": "a-name"}
    params = {"Z": 3600.0, "A": "text", "N": None, "S": reference}
    job = await bench.builder.start_job("up", params, start_key="op-1")
    expected = '{"A":"text","S":{"type":"SECRETS_MANAGER","value":"a-name"},"Z":3600}'
    assert bench.aws.executions[job.id]["input"] == expected
    assert job.id.endswith(":execution:provision:op-1")
    assert job.log_url is not None
    assert job.log_url.startswith("https://us-east-1.console.aws.amazon.com/states/home")


async def test_an_execution_of_that_name_is_the_job(bench: Bench) -> None:
    """It is the job also when it is over, or was started with an input that was edited since."""
    first = await bench.builder.start_job("up", {"A": 1}, start_key="op-1")
    assert await bench.builder.start_job("up", {"A": 2}, start_key="op-1") == first
    bench.aws.finish(first.id, "SUCCEEDED")
    assert await bench.builder.start_job("up", {"A": 1}, start_key="op-1") == first
    assert len(bench.aws.executions) == 1


async def test_express_is_refused(bench: Bench) -> None:
    """It could start twice, and couldn't be described: nothing is started."""
    with pytest.raises(PermanentError, match=r"of the type EXPRESS.*make it STANDARD"):
        await bench.builder.start_job("quick", {}, start_key="op-1")
    assert bench.starts == 0


async def test_an_arn_that_is_no_state_machine_is_refused(bench: Bench) -> None:
    """A name that isn't in the settings, or an ARN without a machine, is refused."""
    with pytest.raises(PermanentError, match="'down' names no state machine: add it to builders"):
        await bench.builder.start_job("down", {}, start_key="op-1")
    with pytest.raises(PermanentError, match=r"There is no state machine .*:gone: create it"):
        await bench.builder.start_job("gone", {}, start_key="op-1")


async def test_a_lost_answer_is_found_by_the_start_key(bench: Bench) -> None:
    """It is found on whichever machine it was: the tier may name another one by now."""
    bench.aws.inject("StartExecution", *[Fault.answer_lost()] * 5)
    with pytest.raises(TemporaryError) as lost:
        await bench.builder.start_job("up", {}, start_key="op-1")
    assert not lost.value.nothing_done
    found = await bench.builder.find_job(
        start_key="op-1", job_identifier="other", started_after=LONG_AGO
    )
    assert found is not None
    assert (found.job_identifier, len(bench.aws.executions)) == ("up", 1)


async def test_a_denied_state_machine_hides_no_job_on_another(bench: Bench) -> None:
    """It is raised if it is the only error, since no start of the service was sent there."""
    job = await bench.builder.start_job("up", {}, start_key="op-1")
    denied = job.id.replace(":provision:", ":other:")
    bench.aws.deny(denied)

    async def find(start_key: str) -> Job | None:
        return await bench.builder.find_job(
            start_key=start_key, job_identifier="other", started_after=LONG_AGO
        )

    assert await find("op-1") == job
    bench.aws.deny(denied.replace("op-1", "op-2"))
    with pytest.raises(NotPermitted):
        await find("op-2")
    bench.aws.inject("DescribeExecution", *[Fault.error("InternalFailure", http_status=500)] * 2)
    with pytest.raises(TemporaryError, match="InternalFailure"):
        await find("op-2")
    with pytest.raises(SomeNotDescribed) as some:
        await bench.builder.describe_jobs(job_ids=[job.id, denied])
    assert set(some.value.reports) == {job.id}
    assert some.value.failed == {denied}


async def test_a_limit_is_waited_for(bench: Bench) -> None:
    """A reached limit is retried with the long pause of a quota."""
    bench.aws.inject("StartExecution", Fault.error("ExecutionLimitExceeded"))
    with pytest.raises(QuotaReached):
        await bench.builder.start_job("up", {}, start_key="op-1")


async def test_error_and_cause_are_the_reason(bench: Bench) -> None:
    """The reason has both, and the texts of the output are what the execution exports."""
    jobs = [await bench.builder.start_job("up", {}, start_key=f"op-{n}") for n in range(2)]
    bench.aws.finish(jobs[0].id, "FAILED", error="Terraform", cause="No more addresses.")
    bench.aws.finish(jobs[1].id, "SUCCEEDED", APP_PLANE_URL="https://t-1.example", count=3)
    reports = await bench.builder.describe_jobs(job_ids=[job.id for job in jobs])
    assert reports[jobs[0].id].reason == (
        f"The job {jobs[0].id} failed: Terraform: No more addresses."
    )
    assert reports[jobs[1].id].exported == {"APP_PLANE_URL": "https://t-1.example"}


async def test_check_describes_each_state_machine(bench: Bench) -> None:
    """A state machine of another type is named by the check."""
    assert isinstance(bench.builder, Checkable)
    with pytest.raises(PermanentError, match="EXPRESS"):
        await bench.builder.check()


def test_a_version_or_an_alias_starts_executions_of_the_machine() -> None:
    """The ARN of an execution names the machine alone."""
    machine = "arn:aws:states:eu-west-1:123456789012:stateMachine:provision"
    expected = "arn:aws:states:eu-west-1:123456789012:execution:provision:op-1"
    for arn in (machine, f"{machine}:3", f"{machine}:live"):
        assert execution_arn(arn, "op-1") == expected


async def test_an_alias_is_allowed_by_its_machine() -> None:
    """The permission names the machine, since IAM has no other resource for it."""

    async def opened() -> Any:
        raise AssertionError

    machine = "arn:aws:states:eu-west-1:123456789012:stateMachine:provision"
    machines = {"up": f"{machine}:live", "other": f"{machine}:3"}
    builder = StepFunctionsBuilder(opened, name="SFN", state_machines=machines)
    assert [one.resource for one in builder.permissions] == [machine, execution_arn(machine, "*")]
