"""Parses executions, which DescribeExecution and status changes describe in the same shape (API
reference, DescribeExecution; EventBridge events reference, AWS Step Functions).

The input, which may have secrets, is ignored; the texts of the output are the exported variables.
"""

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.body import read_object
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.texts import shorten

#: The name under which Step Functions is registered as a builder.
STEP_FUNCTIONS = "STEP_FUNCTIONS"

_STATUSES: Mapping[str, JobStatus] = {
    "RUNNING": JobStatus.IN_PROGRESS,
    "PENDING_REDRIVE": JobStatus.IN_PROGRESS,
    "SUCCEEDED": JobStatus.SUCCEEDED,
    "FAILED": JobStatus.FAILED,
    "TIMED_OUT": JobStatus.TIMED_OUT,
    "ABORTED": JobStatus.STOPPED,
}


_DATA = re.compile(r"""[{\[]|(?<=\binput)\s+['"]|==""")


def read_execution(
    execution: Mapping[str, Any],
    *,
    builder: str = STEP_FUNCTIONS,
    job_identifier: str | None = None,
) -> JobDescription | None:
    """Parse an execution; None if it can't be parsed.

    `job_identifier` None uses the state machine's name. The execution's name is its start key.
    """
    arn, status = execution.get("executionArn"), _STATUSES.get(str(execution.get("status")))
    if not isinstance(arn, str) or arn.count(":") != 7 or status is None:
        return None
    *_, machine, name = arn.split(":")
    why = [text for text in (execution.get("error"), read_cause(execution.get("cause"))) if text]
    return JobDescription(
        job=Job(
            id=arn,
            builder=builder,
            job_identifier=job_identifier or machine,
            log_url=execution_url(arn),
        ),
        status=status,
        start_key=name,
        message=shorten(": ".join(map(str, why))) if why else None,
        exported={
            key: value
            for key, value in read_object(execution.get("output")).items()
            if isinstance(value, str)
        },
    )


def read_cause(cause: object) -> str | None:
    """The cause as text. A nested task's failure is its whole description, input included (Step
    Functions developer guide, Run a job): only the cause in it is used."""
    if not isinstance(cause, str):
        return None
    description = read_object(cause)
    inner = (
        description.get(name) for name in ("Cause", "StoppedReason", "StatusReason", "errorMessage")
    )
    found = (_words(one) for one in (cause, *inner) if isinstance(one, str))
    return next(filter(None, found), None)


def _words(text: str) -> str:
    """The text before any data: a state's own error ends with the input that it could not read."""
    return _DATA.split(text, maxsplit=1)[0].strip()


def execution_url(arn: str) -> str | None:
    """The console's page of an execution, in AWS's public partition."""
    _, partition, _, region, *_ = arn.split(":")
    if partition != "aws":
        return None
    console = f"https://{region}.console.aws.amazon.com/states/home?region={region}"
    return f"{console}#/v2/executions/details/{arn}"
