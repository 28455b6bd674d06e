"""What each field of the API means, with examples, for the OpenAPI document.

A field has the same meaning in all models that have it, unless there is an entry for its model.
"""

from collections.abc import Mapping
from typing import Any

RUN_ID = "1d741b7efde0674c3a787b51d4e5bfc55e581de2"
OPERATION_ID = "33db130190a77ce8b69413ed8a15a3e1934150a9"
TENANT_ID = "t-1"
BUILD_ID = "standard-tenant:8f168599-3c5e-4a0e-9d2b-5a0a3c1f7b21"
BUILD_ARN = f"arn:aws:codebuild:us-east-1:123456789012:build/{BUILD_ID}"

_OUTCOME_RUN_ID = "6be1a74f0c2d4e8896f1a3b5c7d9e0f1a2b3c4d5"
_WAITING_RUN_ID = "678cfcdd820775bb191b1b06f523d791a9bb2fdb"
_LOG_URL = (
    "https://console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEvent:"
    "group=/aws/codebuild/standard-tenant;stream=8f168599-3c5e-4a0e-9d2b-5a0a3c1f7b21"
)
_SEEN = "2026-11-20T09:14:03.123456Z"
_STARTED = "2026-11-20T09:14:03.201000Z"
_SETTLED = "2026-11-20T09:14:03.641000Z"
_JOB_SINCE = "2026-11-20T09:14:03.598000Z"
_DEADLINE = "2026-11-20T11:14:03.598000Z"
_ENDED = "2026-11-20T09:26:41.870000Z"
_CURSOR = "MjAyNi0xMS0yMFQwOToxNDowMy4xMjM0NTYrMDA6MDA"
_TIMEOUT = "Timed out while waiting for the control plane's webhook."
_REASON = "The job failed in BUILD: COMMAND_EXECUTION_ERROR: exit status 1."

#: A field's meaning and its examples. The first one is what examples of its model show: null, or
#: nothing if the field is optional, for what the others say only at other times.
Meaning = tuple[Any, ...]

_MEANINGS: Mapping[str, Meaning] = {
    # Runs
    "runId": ("The id of a run: the digest of its event's type, source and id.", RUN_ID),
    "eventType": ("The type of the event, after aliases.", "TENANT_PROVISIONING"),
    "tenantId": ("The tenant's id in the control plane.", TENANT_ID),
    "source": ("The `source` of the event; empty without one.", "TenantManagementService"),
    "eventId": (
        "The id of the event by its sender, else the one that the service gave it.",
        "6f2c0e1e-7f0b-4a53-9a57-3d1f5a0c9b11",
    ),
    "status": ("How far the run is.", "succeeded"),
    "attempt": ("The number of its latest attempt, from 1; 0 while it is queued.", 1),
    "firstSeen": ("When the event was first received.", _SEEN),
    "startedAt": ("When it began.", _STARTED),
    "endedAt": ("When it ended; null until then.", _SETTLED),
    "dueAt": ("When the sweep resumes it; null if nothing is left to do.", None, _ENDED),
    "operationId": ("The id of an operation.", OPERATION_ID),
    "outcomeOf": ("The operation that it ended; null for any other event.", None, OPERATION_ID),
    "duplicateOf": ("The run that had handled the same request.", None, RUN_ID),
    "waitsFor": ("What it waits for; null if it doesn't wait.", None),
    "by": ("Who replayed it; null if nobody did or the name is unknown.", None, "operations"),
    "note": ("Its result, or why it waits.", f"The job {BUILD_ID} was started on CODE_BUILD."),
    "job": ("The job that was started; null if none is known.",),
    "error": ("Why it failed; null if it didn't.", None),
    "steps": ("The side effects that are done and are not repeated by another attempt.",),
    "attempts": ("The last 20 attempts, the oldest first.",),
    "waits": ("The pauses between its attempts, by their kind.", []),
    "number": ("Counted from 1.", 1),
    "how": ("How the attempt ended; running if it hasn't.", "succeeded"),
    "replayed": ("Whether an operator's replay began it.", False),
    "recordedAt": ("When it was done.", _SETTLED),
    "StepView.name": ("The name of the step.", "start-job"),
    "seconds": ("How long it waited in all, in seconds.", 12.5),
    "WaitView.kind": ("Why it waited.", "temporary"),
    "WaitView.count": ("How often it waited.", 2),
    "AttemptView.reason": ("Why it failed or waits.", None, "The tenant t-1 is busy."),
    "Awaited.operationId": ("The operation whose end it waits for.", OPERATION_ID),
    "Awaited.runId": ("The run that must end first.", _WAITING_RUN_ID),
    "force": ("Also if it succeeded, or if the tenant's state doesn't allow it.", True),
    # Jobs
    "Job.id": ("The job's id at its builder: an AWS CodeBuild build's, for example.", BUILD_ID),
    "EndedJob.id": ("The job's id at its builder.", BUILD_ID),
    "builder": ("The name under which the builder is registered.", "CODE_BUILD"),
    "jobIdentifier": (
        "What the tier names: the AWS CodeBuild project, the Jenkins job or the state machine.",
        "standard-tenant",
    ),
    "logUrl": ("The job's log; null until the builder has named it.", _LOG_URL),
    "request": (
        "In a dry run only: the request that would have started the job.",
        None,
        {"projectName": "standard-tenant"},
    ),
    "EndedJob.status": ("The job's status, as its builder described it.", "SUCCEEDED"),
    "EndedJob.message": ("The builder's message.", None, "Build terminated with state: FAILED"),
    "phase": ("The phase in which it ended.", "COMPLETED"),
    "exportedVariables": (
        "The variables that the build exports.",
        {"APP_PLANE_URL": "https://bluebird.example.com"},
    ),
    # Operations
    "kind": ("What is done to the tenant; null for a run that holds no tenant.", "provisioning"),
    "OperationView.state": ("Whether it is over.", "open"),
    "StartView.state": ("Whether it is over.", "open"),
    "OperationView.runId": ("The run that opened it.", RUN_ID),
    "StartView.runId": ("The run that began this start.", RUN_ID),
    "tier": ("The tier.", "STANDARD"),
    "outcomeRunId": ("The run that ended it; null until then.", None, _OUTCOME_RUN_ID),
    "startNumber": ("How often it was started; a forced replay starts it again.", 1),
    "openedAt": ("When it was opened.", _STARTED),
    "OperationView.endedAt": ("When it ended; null until then.", None, _ENDED),
    "StartView.endedAt": ("When it ended; null until then.", None, _ENDED),
    "succeeded": ("Whether it succeeded; null until it has ended.", None, True),
    "OperationView.reason": ("Why it ended so, is stopped, or has no job yet.", None, _REASON),
    "StartView.reason": ("Why it ended so.", None, _REASON),
    "jobSince": ("When its job was recorded.", _JOB_SINCE),
    "deadlineAt": ("When its job is stopped, unless it is over by then.", _DEADLINE),
    "cancelledBy": ("Who cancelled it; null if nobody did.", None, "operations"),
    "reportedAt": ("When its report was accepted or given up.", None, _ENDED),
    "starts": ("Its starts, the oldest first and the current one last.",),
    "report": ("The report to the control plane; null if none is due.", None),
    "runs": ("The runs that opened, reported and ended its starts.",),
    "ReportView.url": ("Where it is posted to.", "https://control-plane.example.com/webhook"),
    "ReportView.count": ("How often it was posted.", 1),
    "tries": ("The last ten attempts that are over.",),
    "at": ("When it happened.", _SEEN),
    "answer": ("The HTTP status, or a sentence; null if its process crashed.", "204", _TIMEOUT),
    "doneAt": ("When it was accepted or given up; null until then.", _ENDED),
    "trouble": ("Why it was given up; null if it wasn't.", None, _TIMEOUT),
    "nextAt": ("When it is posted next.", None, _ENDED),
    # Tenants
    "TenantSummary.state": ("Null if no operation of it has begun.", "provisioning"),
    "changedAt": ("Since when it is in this state.", _STARTED),
    "operation": ("The operation that holds it; null if none does.",),
    "lastOperation": ("The last operation, if none holds it.", None),
    "isSlow": ("Whether it waits without a job, or has used half of its deadline.", False),
    "waitingCount": ("How many requests wait for it.", 1),
    "waiting": ("The runs that wait for it, in order.", [_WAITING_RUN_ID]),
    "TenantSummary.reason": ("Why its operation waits, is stopped or failed.", None, _REASON),
    "operations": ("Its operations, the last opened first.",),
    "operationsCursor": ("Continues the operations; null on the last page.", None, _CURSOR),
    "timeline": ("What happened to it, the latest event first.",),
    "TimelineEntry.reason": ("Why it failed or waits, or its result.", None, _REASON),
    "link": ("The log of its job.", _LOG_URL),
    "CancelRequest.reason": (
        "Becomes the reason of the operation's end.",
        "The customer has withdrawn.",
    ),
    "cleanUp": ("Whether a clean-up may be stopped, too.", True),
    "stopped": ("The operation that was stopped.",),
    "success": ("Always true: a failure is a problem.", True),
    "items": ("The page's items.",),
    "cursor": ("Pass it as `cursor` to read the next page; null on the last.", None, _CURSOR),
    # The overview
    "states": (
        "The number of tenants in each state.",
        {"active": {"count": 212, "capped": False}, "none": {"count": 1, "capped": False}},
    ),
    "failedRuns": ("The number of failed runs.",),
    "oldestOperation": ("The open operation that was opened first; null if none is open.",),
    "CountView.count": ("How many there are, up to 1,000.", 212),
    "capped": ("Whether there are more than were counted.", False),
    # Problems
    "Problem.type": ("Always about:blank: the status identifies the problem.", "about:blank"),
    "title": ("The name of the status.", "Unprocessable Entity"),
    "Problem.status": ("The HTTP status.", 422),
    "Problem.detail": (
        "One sentence that says what to change.",
        "Tier 'GOLD' is not in the tier catalog: add it, or send the event with a tier that is.",
    ),
    "instance": ("The path of the run, without one that of the request.", f"/runs/{RUN_ID}"),
    "errors": ("The fields that don't fit, if there are any.",),
    "ErrorView.type": ("The class of the error.", "PermanentError"),
    "ErrorView.message": (
        "One sentence.",
        "Tier 'GOLD' is not in the tier catalog: add it, or send the event with a tier that is.",
    ),
    "PayloadMismatch.message": ("What is wrong there.", "'GOLD' is not in the tier catalog"),
    "path": ("Where in the payload, as a JSONPath.", "$.planConfig.tier"),
    # The service and its sender
    "greeting": ("Shows that the service answers.", "Hello from the SaaS orchestrator"),
    "date": ("The service's time.", "2026-11-20T09:14:03.123+00:00"),
    "Ping.url": ("The path that was requested.", "/ping"),
    "Health.status": ("`ok` if it is alive, `ready` if it takes events.", "ok"),
    "Me.name": ("The sender's name; null on an open service.", "operations"),
    "scopes": ("What the sender may do.", ["runs:read", "runs:write"]),
    # Payloads
    "tenant": ("The tenant, as an object or as JSON text.",),
    "Tenant.id": ("The tenant's id in the control plane.", TENANT_ID),
    "Tenant.name": ("Its name.", "Bluebird Logistics"),
    "Tenant.key": ("Its short name.", "bluebird"),
    "TenantEvent.tenantId": ("The tenant's id, in place of `tenant`.", None, TENANT_ID),
    "TENANT_ID": ("The tenant's id, as in a build's environment.", None, TENANT_ID),
    "tenantRegistrationId": (
        "The id of the registration, as the AWS SaaS Builder Toolkit names tenants.",
        None,
        "d5c2f1d0-3a87-4e0e-8a3c-0a9b6f6a4f21",
    ),
    "planConfig": ("The plan, with its tier.",),
    "subscription": ("The subscription, whose plan has the tier.", None),
    "TenantEvent.plan": ("The plan, with its tier.", None),
    "Subscription.plan": ("The plan, with its tier.",),
    "tenantData": ("The tier, as the AWS SaaS Builder Toolkit sends it.", None),
    "TenantEvent.tier": ("The tier, in place of `planConfig`.", None, "STANDARD"),
    "features": ("The features of the plan.", None),
    "builderConfig": ("Which builder starts the job, and with which variables.",),
    "BuilderConfig.type": ("CODE_BUILD, JENKINS, STEP_FUNCTIONS or your own.", "CODE_BUILD"),
    "config": ("The builder's options.",),
    "environmentOverride": (
        "Variables of the job, over those of the tier.",
        {"POSTGRES_SIZE": "10"},
    ),
    "Feature.key": ("The name of the feature.", "IdP"),
    "defaultValue": ("Its value unless the tenant has chosen one.", "auth0"),
    "Feature.value": ("The tenant's choice.",),
    "FeatureValue.value": ("The value that was chosen.", "keycloak"),
    "CODEBUILD_BUILD_ID": (
        "The AWS CodeBuild build that reports, as its environment has it.",
        BUILD_ID,
    ),
    "TenantOutcome.reason": ("Why it failed.", None, _REASON),
}

_QUERIES: Mapping[str, Meaning] = {
    "tenantId": ("Only runs of this tenant.", TENANT_ID),
    "eventType": ("Only runs of this event type.", "TENANT_PROVISIONING"),
    "status": ("Only runs in this status.", "failed"),
    "since": ("Only runs that were first seen then or later.", "2026-11-20T00:00:00Z"),
    "until": ("Only runs that were first seen before then.", "2026-11-21T00:00:00Z"),
    "state": (
        "Only tenants in this state; `none`: their first request never began.",
        "provision_failed",
    ),
    "prefix": ("Only tenants whose ids have this prefix.", "t-"),
    "sort": (
        "By id, or by `attention`: failed ones first, then slow ones, then by age.",
        "attention",
    ),
    "limit": ("The maximum number of items.", 50),
    "cursor": ("The `cursor` of the page before.", _CURSOR),
    "operationsCursor": ("The `operationsCursor` of the page before.", _CURSOR),
}

_HEADERS: Mapping[str, Any] = {
    "Location": f"/runs/{RUN_ID}",
    "Retry-After": 5,
    "Idempotent-Replayed": "true",
    "WWW-Authenticate": "Bearer",
}


def describe_field(model: type, name: str) -> dict[str, Any]:
    """JSON Schema keywords for a field of a model of the service; of another model, none."""
    if not model.__module__.startswith("orchestrator."):
        return {}
    named = (_MEANINGS.get(f"{kind.__name__}.{name}") for kind in model.__mro__)
    meaning = next((one for one in named if one is not None), _MEANINGS.get(name))
    return {} if meaning is None else _keywords(meaning)


def describe_query(name: str) -> dict[str, Any]:
    """The description and the example of a query parameter."""
    text, example = _QUERIES[name]
    return {"description": text, "example": example}


def describe_header(name: str) -> dict[str, Any]:
    """The example of a response header."""
    return {"example": _HEADERS[name]} if name in _HEADERS else {}


def describe_path(name: str) -> dict[str, Any]:
    """The description and the example of a path parameter."""
    text, example, *_ = _MEANINGS[name]
    return {"description": text, "example": example}


def _keywords(meaning: Meaning) -> dict[str, Any]:
    text, *examples = meaning
    shown = {"description": text, **({"examples": examples} if examples else {})}
    is_time = any(isinstance(one, str) and one.startswith("2026-11-20T") for one in examples)
    return {**shown, **({"format": "date-time"} if is_time else {})}
