"""What AWS tells of a job on its own: CodeBuild's state changes and Step Functions'.

Both carry all that the job was started with, secrets included; none of that goes further.
Anybody can send an event that looks like one, so it is a reason to ask the builder, and no more.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs
import structlog

from orchestrator.core.builds import CODE_BUILD, read_build
from orchestrator.core.executions import STEP_FUNCTIONS, read_cause, read_execution
from orchestrator.core.jobs import JobReport
from orchestrator.core.json_text import parse_json
from orchestrator.core.oversight import Overseer, not_shown_yet
from orchestrator.core.records import OperationState

#: Where a build's environment stands, and what an execution was given and gave.
_ENVIRONMENTS = frozenset({"environment-variables", "input", "output"})
#: The source of each builder's events; only AWS can put it on a bus (EventBridge events
#: reference, AWS CodeBuild events, AWS Step Functions events; PutEvents).
_SOURCES: Mapping[str, str] = {CODE_BUILD: "aws.codebuild", STEP_FUNCTIONS: "aws.states"}
#: "CodeBuild Build Phase Change", "CodeBuild Fleet State Change" (EventBridge events reference)
#: and whatever else of the kind there is, such as what batches of builds send.
_CHANGE = re.compile(r"(?:CodeBuild|Step Functions) .*Change")

log = structlog.get_logger("orchestrator.state_changes")


@attrs.frozen
class Ended:
    """The job is over: the run that says so, made just now or (`replayed`) before."""

    run_id: str
    replayed: bool = False


def is_change(event_type: str) -> bool:
    """Whether AWS's builders send events of that type, besides those that have a name here."""
    return _CHANGE.fullmatch(event_type) is not None


def read_state_change(detail: Mapping[str, Any]) -> JobReport | None:
    """The job that a state change is about; None if it can't be read."""
    return read_execution(detail) if "executionArn" in detail else read_build(detail)


async def act_on(overseer: Overseer, told: JobReport, source: str) -> Ended | None:
    """Ask the builder of a job that a state change tells of, and act on its answer alone.

    None: the operation goes on, or the job isn't one of ours. Where the builder can't be asked,
    AWS's own message counts, by its `source`.

    Raises:
        TemporaryError: ledger or builder can't be reached, the builder doesn't show the job yet,
            or an orphaned job couldn't be stopped.
        OrchestratorError: the outcome couldn't be handled yet; it is kept.
    """
    job, books = told.job, overseer.books
    is_askable = job.builder in overseer.askable
    if overseer.leaves_alone(job):
        return None
    if not is_askable and source != _SOURCES.get(job.builder):
        log.warning(
            "state change ignored: its builder can't be asked, and it isn't from AWS",
            job_id=job.id,
            builder=job.builder,
            source=source,
        )
        return None
    known = await books.find_job(job.builder, job.id)
    start = (known.operation_id, known.start_number) if known else overseer.start_of(told)
    operation = await books.find_operation(start[0]) if start else None
    # Of a start that was just sent nothing need be recorded yet: it is left alone.
    if start is None or operation is None or start[1] > operation.start_number:
        return None
    if overseer.leaves_alone(operation.job):
        return None
    report = await overseer.describe(job) if is_askable else told
    if report is None and known is None:
        raise not_shown_yet(job)
    if report is not None:
        if known is None and overseer.start_of(report) != start:
            log.info("state change ignored: the job wasn't started for this", job_id=job.id)
            return None
        operation = await overseer.adopt(report, operation, start[1])
        if operation is None:
            return None
    if report is None or not report.is_over:
        if told.is_over:
            await overseer.ask_again(*start)
        return None
    if operation.state is not OperationState.OPEN:
        return Ended(operation.outcome or operation.opener, replayed=True)
    return Ended(await overseer.end(operation, report))


def without_environment(value: Any) -> Any:
    """A state change, or an envelope around one, without what the job was started with."""
    match value:
        case Mapping():
            return {
                name: read_cause(item) if name == "cause" else without_environment(item)
                for name, item in value.items()
                if name not in _ENVIRONMENTS
            }
        case list():
            return [without_environment(item) for item in value]
        case str() if value.removeprefix("\ufeff").lstrip()[:1] in ("{", "["):
            # Details may come as JSON text; what isn't JSON holds no environment.
            try:
                return json.dumps(without_environment(parse_json(value)))
            except ValueError:
                return value
    return value
