"""Parses CodeBuild's two descriptions of a build: the API's answer, and state changes.

Only the fields that the service needs are read (CodeBuild user guide, Build notifications input
format reference; API reference, Build).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.core.events.body import read_object
from orchestrator.core.identifiers import START_KEY
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.texts import shorten
from orchestrator.core.urls import web_link

#: The name under which CodeBuild is registered as a builder.
CODE_BUILD = "CODE_BUILD"
#: The variable with the project's name in each build of the service. A build that receives another
#: build's start key, so that it can report, is not a job of the service.
PROJECT = "ORCHESTRATOR_PROJECT"

#: Region, account, project and number of a build (API reference, Build: arn).
_ARN = re.compile(r"arn:aws:codebuild:([a-z0-9-]+):([0-9]+):build/([A-Za-z0-9_-]+):([A-Za-z0-9-]+)")
_NO_LOG = re.compile(r"\b(?:group|stream)=null(?![^;&])")


def describe_build(build: Mapping[str, Any], *, builder: str = CODE_BUILD) -> JobDescription:
    """Parse a build as BatchGetBuilds returns it."""
    phases = [
        (phase["phaseType"], phase.get("phaseStatus"), _api_message(phase))
        for phase in build.get("phases", ())
    ]
    return _report(
        builder=builder,
        build_id=build["id"],
        project=build["projectName"],
        status=build["buildStatus"],
        log_url=_log_url(build.get("logs", {}), "deepLink", "s3DeepLink")
        or _build_url(build.get("arn")),
        variables=build.get("environment", {}).get("environmentVariables", ()),
        exported=build.get("exportedEnvironmentVariables", ()),
        phases=phases,
    )


def read_build(detail: Mapping[str, Any], *, builder: str = CODE_BUILD) -> JobDescription | None:
    """Parse the build of a "CodeBuild Build State Change"; None if it can't be parsed.

    There `build-id` is the build's ARN, `arn:aws:codebuild:…:build/project:uuid`.
    """
    build_id, status = detail.get("build-id"), detail.get("build-status")
    if not isinstance(build_id, str) or not build_id or status not in list(JobStatus):
        return None
    arn, build_id = build_id, build_id.rpartition("build/")[2]
    about = read_object(detail.get("additional-information"))
    phases = [
        (phase.get("phase-type"), phase.get("phase-status"), _event_message(phase))
        for phase in _objects(about.get("phases"))
    ]
    project = detail.get("project-name")
    return _report(
        builder=builder,
        build_id=build_id,
        project=project if isinstance(project, str) else build_id.partition(":")[0],
        status=status,
        log_url=_log_url(read_object(about.get("logs")), "deep-link") or _build_url(arn),
        variables=_objects(read_object(about.get("environment")).get("environment-variables")),
        exported=_objects(about.get("exported-environment-variables")),
        phases=phases,
    )


def _report(
    *,
    builder: str,
    build_id: str,
    project: str,
    status: str,
    log_url: str | None,
    variables: Iterable[Mapping[str, Any]],
    exported: Iterable[Mapping[str, Any]],
    phases: Iterable[tuple[Any, Any, str | None]],
) -> JobDescription:
    given = {
        name: one.get("value") for one in variables if isinstance(name := one.get("name"), str)
    }
    own = given.get(START_KEY) if given.get(PROJECT) == project else None
    failed = next(
        ((phase, message) for phase, how, message in phases if how not in (None, "SUCCEEDED")),
        (None, None),
    )
    return JobDescription(
        job=Job(
            id=build_id,
            builder=builder,
            job_identifier=project,
            log_url=log_url,
        ),
        status=JobStatus(status),
        start_key=own if isinstance(own, str) else None,
        phase=failed[0] if isinstance(failed[0], str) else None,
        message=shorten(failed[1]) if failed[1] else None,
        exported={
            one["name"]: one["value"]
            for one in exported
            if isinstance(one.get("name"), str) and isinstance(one.get("value"), str)
        },
    )


def _log_url(logs: Mapping[str, Any], *names: str) -> str | None:
    """The first valid log link.

    `deepLink` has `group=null;stream=null` until there is a log group, and always if the logs are
    written to S3 only (observed; API reference, LogsLocation).
    """
    links = (web_link(logs.get(name)) for name in names)
    return next((link for link in links if link and not _NO_LOG.search(link)), None)


def _build_url(arn: object) -> str | None:
    """The console's page of a build, in AWS's public partition: it shows the log as it is written.

    It can be linked from the start, when `_log_url` has none yet.
    """
    match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    if match is None:
        return None
    region, account, project, number = match.groups()
    console = f"https://{region}.console.aws.amazon.com/codesuite/codebuild/{account}"
    return f"{console}/projects/{project}/build/{project}%3A{number}/log?region={region}"


def _api_message(phase: Mapping[str, Any]) -> str | None:
    """The first context with a message: most are empty."""
    messages = (context.get("message") for context in phase.get("contexts", ()))
    return next((message.strip() for message in messages if message and message.strip()), None)


def _event_message(phase: Mapping[str, Any]) -> str | None:
    """The first context in text form: "COMMAND_EXECUTION_ERROR: Error while …"; an empty one is
    ": "."""
    contexts = phase.get("phase-context")
    for context in contexts if isinstance(contexts, list) else ():
        if isinstance(context, str):
            code, colon, message = context.partition(": ")
            text = message if (colon and code.isupper()) or not code else context
            if text.strip(" :"):
                return text.strip()
    return None


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
