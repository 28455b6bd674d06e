"""Runs jobs as Step Functions executions: a job identifier names a state machine, a start is one
StartExecution. The execution's name is the start key, so that a start can't happen twice."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import aws_errors
from orchestrator.adapters.step_functions.executions import execution_url, read_execution
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import NotPermitted, PermanentError, TemporaryError, event_mismatch
from orchestrator.core.events.javascript import stringify
from orchestrator.core.jobs.job_description import JobDescription, SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job

if TYPE_CHECKING:
    from types_aiobotocore_stepfunctions import SFNClient
    from types_aiobotocore_stepfunctions.type_defs import StartExecutionInputTypeDef

#: DescribeExecution describes one execution; so many requests are sent concurrently.
_AT_ONCE = 10


class StepFunctionsBuilder:
    def __init__(
        self,
        client: Callable[[], Awaitable["SFNClient"]],
        *,
        name: str,
        state_machines: Mapping[str, str],
    ) -> None:
        """`client` returns the app's open client; `state_machines` are ARNs by job identifier."""
        self._client = client
        self._name = name
        self._machines = state_machines
        self._standard: set[str] = set()
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self.description = f"Step Functions: {', '.join(sorted(state_machines))}"
        starting = ("states:DescribeStateMachine", "states:StartExecution")
        watching = ("states:DescribeExecution", "states:StopExecution")
        # A permission on the machine covers its versions and aliases (developer guide,
        # auth-version-alias).
        arns = sorted({":".join(arn.split(":")[:7]) for arn in state_machines.values()})
        self.permissions = (
            *(Permission(starting, arn) for arn in arns),
            *(Permission(watching, execution_arn(arn, "*")) for arn in arns),
        )

    async def check(self) -> None:
        for job_identifier, arn in self._machines.items():
            await self._must_be_standard(job_identifier, arn)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """Start an execution with `params` as its input.

        An existing execution of that name is this start's: Step Functions keeps names for 90 days
        (API reference, StartExecution).
        """
        request = self.build_start(job_identifier, params, start_key=start_key)
        arn = request["stateMachineArn"]
        try:
            await self._must_be_standard(job_identifier, arn)
        except TemporaryError as error:
            error.nothing_done = True
            raise
        client = await self._client()
        with (
            aws_errors("Step Functions StartExecution", missing=_missing(job_identifier, arn)),
            suppress(client.exceptions.ExecutionAlreadyExists),
        ):
            await client.start_execution(**request)
        started = execution_arn(arn, start_key)
        return Job(
            id=started,
            builder=self._name,
            job_identifier=job_identifier,
            log_url=execution_url(started),
        )

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> "StartExecutionInputTypeDef":
        given = {name: value for name, value in sorted(params.items()) if value is not None}
        return {
            "stateMachineArn": self._machine(job_identifier),
            "name": start_key,
            "input": stringify(given),
        }

    async def find_job(
        self,
        *,
        start_key: str,
        job_identifier: str,  # noqa: ARG002 - the port's
        started_after: datetime,  # noqa: ARG002 - the port's
    ) -> Job | None:
        """The execution with the start key as its name, on any of the state machines: the tier may
        name another one by now."""
        names = {execution_arn(arn, start_key) for arn in self._machines.values()}
        reports, troubles = await self._ask_about(names)
        for report in reports.values():
            return report.job
        if troubles:
            raise _worst(troubles.values())
        return None

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        asked = [job_id for job_id in job_ids if job_id.startswith("arn:")]
        reports, troubles = await self._ask_about(asked)
        if not troubles:
            return reports
        worst = _worst(troubles.values())
        if len(troubles) == len(asked):
            raise worst
        raise SomeNotDescribed(str(worst), reports=reports, failed=troubles.keys())

    def owns(self, job_id: str) -> bool:
        """Whether the execution is one of a configured state machine: a nested execution of another
        one may have the same name."""
        return self._identifier(job_id) is not None

    async def stop_job(self, *, job_id: str) -> None:
        report = await self._describe(job_id) if job_id.startswith("arn:") else None
        if report is None or report.is_over:
            return
        client = await self._client()
        with aws_errors("Step Functions StopExecution"):
            await client.stop_execution(executionArn=job_id, cause="Stopped by the orchestrator.")

    async def _ask_about(
        self, job_ids: Collection[str]
    ) -> tuple[Mapping[str, JobDescription], Mapping[str, TemporaryError]]:
        """The descriptions of executions, and the errors of those that can't be described."""
        answers = await asyncio.gather(*map(self._describe, job_ids), return_exceptions=True)
        reports, troubles = dict[str, JobDescription](), dict[str, TemporaryError]()
        for job_id, answer in zip(job_ids, answers, strict=True):
            match answer:
                case JobDescription():
                    reports[answer.job.id] = answer
                case TemporaryError():
                    troubles[job_id] = answer
                case BaseException():
                    raise answer
        return reports, troubles

    async def _describe(self, job_id: str) -> JobDescription | None:
        client = await self._client()
        async with self._asking:
            with aws_errors("Step Functions DescribeExecution"):
                try:
                    execution = await client.describe_execution(executionArn=job_id)
                except client.exceptions.ExecutionDoesNotExist:
                    return None
                identifier = self._identifier(job_id)
                return read_execution(execution, builder=self._name, job_identifier=identifier)

    def _identifier(self, job_id: str) -> str | None:
        """The job identifier of an execution's state machine; None if it isn't configured."""
        machines = self._machines.items()
        known = (name for name, arn in machines if job_id.startswith(execution_arn(arn, "")))
        return next(known, None)

    def _machine(self, job_identifier: str) -> str:
        arn = self._machines.get(job_identifier)
        if arn is None:
            listed = ", ".join(sorted(self._machines))
            raise event_mismatch(
                f"{job_identifier!r} names no state machine: add it to "
                f"builders.step_functions.state_machines, which has {listed}."
            )
        return arn

    async def _must_be_standard(self, job_identifier: str, arn: str) -> None:
        """Refuse express machines, whose executions have no unique names and can't be described."""
        if arn in self._standard:
            return
        client = await self._client()
        with aws_errors(
            "Step Functions DescribeStateMachine", missing=_missing(job_identifier, arn)
        ):
            machine_type = (await client.describe_state_machine(stateMachineArn=arn))["type"]
        if machine_type != "STANDARD":
            raise PermanentError(
                f"The state machine {arn} is of the type {machine_type}, which can start twice "
                "and can't be watched: make it STANDARD."
            )
        self._standard.add(arn)


def execution_arn(machine_arn: str, name: str) -> str:
    """The ARN of a state machine's execution, which has no version or alias."""
    *start, _, machine = machine_arn.split(":")[:7]
    return ":".join((*start, "execution", machine, name))


def _worst(troubles: Collection[TemporaryError]) -> TemporaryError:
    """The most relevant error. A denied permission is the least: without it no start was possible
    either."""
    return min(troubles, key=lambda error: isinstance(error, NotPermitted))


def _missing(job_identifier: str, arn: str) -> str:
    return (
        f"There is no state machine {arn}: create it, or correct {job_identifier!r} in "
        "builders.step_functions.state_machines."
    )
