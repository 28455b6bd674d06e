"""A CodeBuild stand-in for `dev`, `demo` and the tests.

moto's CodeBuild ignores overrides and idempotency tokens and its builds never fail; this one
records all parameters, ends a build as the caller says, and injects faults. It does not run builds
or persist anything. `on_change` is called with each build that starts or ends.

Beside CodeBuild's API it has one action of its own, `FinishBuild`, by which `orchestrator dev
finish` ends a build.
"""

import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import attrs
from aiohttp import web

from orchestrator.embedded.faults import Fault, Faults

Document = dict[str, Any]
Outcome = Literal["SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED"]

#: The address of the embedded AWS.
HOST = "127.0.0.1"
REGION = "us-east-1"

_ACCOUNT = "123456789012"
_ARN = f"arn:aws:codebuild:{REGION}:{_ACCOUNT}"
_TOKEN_VALID_S = 300
_BATCH_LIMIT = 100

# The context that CodeBuild writes into a build's last phase: (status code, message).
_CONTEXTS: Mapping[str, tuple[str, str]] = {
    "FAILED": ("COMMAND_EXECUTION_ERROR", "Error while executing command. Reason: exit status 1"),
    "FAULT": ("INTERNAL_ERROR", "Internal Service Error: the build host was lost"),
    "TIMED_OUT": ("BUILD_TIMED_OUT", "Build has timed out."),
}


def _log_link(group: str, stream: str) -> str:
    console = f"https://console.aws.amazon.com/cloudwatch/home?region={REGION}"
    return f"{console}#logEvent:group={group};stream={stream}"


#: The log link of a build without a CloudWatch log, yet or at all.
_NO_LOGS: Mapping[str, str] = {"deepLink": _log_link("null", "null")}


@attrs.define
class Build:
    """One build: its StartBuild parameters and, once it is over, how it ended."""

    id: str
    project: str
    number: int
    place: int
    """The position among all builds of the account, oldest first."""
    parameters: Document
    started: float
    status: Literal["IN_PROGRESS"] | Outcome = "IN_PROGRESS"
    ended: float | None = None
    reason: str | None = None
    exported: Mapping[str, str] = attrs.field(factory=dict)
    logs_in_s3: bool = False

    @property
    def arn(self) -> str:
        return f"{_ARN}:build/{self.id}"

    @property
    def overrides(self) -> list[dict[str, str]]:
        """The environment variables of StartBuild: name, value and perhaps type."""
        overrides: list[dict[str, str]] = self.parameters.get("environmentVariablesOverride", [])
        return overrides

    def as_document(self) -> Document:
        """The build as CodeBuild's API describes it."""
        exported = [{"name": name, "value": value} for name, value in self.exported.items()]
        document = {
            "id": self.id,
            "arn": self.arn,
            "buildNumber": self.number,
            "startTime": self.started,
            "currentPhase": "BUILD" if self.ended is None else "COMPLETED",
            "buildStatus": self.status,
            "buildComplete": self.ended is not None,
            "projectName": self.project,
            "phases": self._phases(),
            "environment": {"environmentVariables": self.overrides},
            "exportedEnvironmentVariables": exported,
            "logs": self._logs(),
            "initiator": "orchestrator",
        }
        return document if self.ended is None else document | {"endTime": self.ended}

    def as_state_change(self) -> Document:
        """The detail of its "CodeBuild Build State Change" event."""
        document = self.as_document()
        phases = [
            {
                "phase-type": phase["phaseType"],
                "phase-status": phase.get("phaseStatus"),
                "phase-context": [
                    f"{context['statusCode']}: {context['message']}"
                    for context in phase.get("contexts", ())
                ],
            }
            for phase in document["phases"]
        ]
        logs = document["logs"]
        return {
            "build-status": self.status,
            "project-name": self.project,
            "build-id": self.arn,
            "current-phase": document["currentPhase"],
            "additional-information": {
                "build-complete": document["buildComplete"],
                "environment": {"environment-variables": self.overrides},
                "exported-environment-variables": document["exportedEnvironmentVariables"],
                "logs": {
                    "group-name": logs.get("groupName"),
                    "stream-name": logs.get("streamName"),
                    "deep-link": logs["deepLink"],
                },
                "phases": phases,
            },
        }

    def as_event(self) -> Document:
        """Its "CodeBuild Build State Change" as EventBridge delivers it: a new event."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "CodeBuild Build State Change",
            "source": "aws.codebuild",
            "account": _ACCOUNT,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [self.arn],
            "detail": self.as_state_change(),
        }

    def _logs(self) -> Document:
        """API reference, LogsLocation."""
        group, stream = f"/aws/codebuild/{self.project}", self.id.partition(":")[2]
        if not self.logs_in_s3:
            return {
                "groupName": group,
                "streamName": stream,
                "deepLink": _log_link(group, stream),
            }
        place = f"{self.project}-logs/{stream}.gz"
        return {
            **_NO_LOGS,
            "s3DeepLink": f"https://s3.console.aws.amazon.com/s3/object/{place}?region={REGION}",
            "s3LogsArn": f"arn:aws:s3:::{place}",
        }

    def _phases(self) -> list[Document]:
        submitted = _phase("SUBMITTED", self.started, self.started)
        if self.ended is None:
            return [submitted, {"phaseType": "BUILD", "startTime": self.started}]
        code, message = _CONTEXTS.get(self.status, ("", ""))
        build = _phase("BUILD", self.started, self.ended) | {
            "phaseStatus": self.status,
            "contexts": [{"statusCode": code, "message": self.reason or message}],
        }
        completed = {"phaseType": "COMPLETED", "startTime": self.ended}
        return [submitted, build, _phase("FINALIZING", self.ended, self.ended), completed]


def _phase(name: str, started: float, ended: float) -> Document:
    return {
        "phaseType": name,
        "phaseStatus": "SUCCEEDED",
        "startTime": started,
        "endTime": ended,
        "durationInSeconds": int(ended - started),
        # CodeBuild writes an empty context where there is no message.
        "contexts": [{"statusCode": "", "message": ""}],
    }


class _RefusedError(Exception):
    def __init__(self, code: str, message: str, http_status: int = 400) -> None:
        super().__init__(code, message)
        self.document = {"__type": code, "message": message}
        self.http_status = http_status


@attrs.define
class CodeBuildStandIn:
    """CodeBuild's API, and methods with which a test or the demo controls it."""

    url: str
    clock: Callable[[], float] = time.time
    page_size: int = _BATCH_LIMIT
    listing_lag: int = 0
    """How many of the newest builds a listing doesn't show yet."""
    stops_at_once: bool = True
    """False: StopBuild is accepted, but the build runs until it is finished."""
    on_change: Callable[[Build], None] = lambda _: None
    """Called when a build has started, and when it has ended."""
    builds: dict[str, Build] = attrs.field(init=False, factory=dict)
    calls: list[tuple[str, Document]] = attrs.field(init=False, factory=list)
    _builds_started: dict[str, int] = attrs.field(init=False, factory=dict)
    _logs_in_s3: set[str] = attrs.field(init=False, factory=set)
    _started: int = attrs.field(init=False, default=0)
    _tokens: dict[str, Build] = attrs.field(init=False, factory=dict)
    faults: Faults = attrs.field(init=False, factory=Faults)

    def add_project(self, name: str, *, logs_in_s3: bool = False) -> None:
        """Create a project; of an existing one only the logs of its next builds change."""
        self._builds_started.setdefault(name, 0)
        (self._logs_in_s3.add if logs_in_s3 else self._logs_in_s3.discard)(name)

    def remove_build(self, build_id: str) -> None:
        del self.builds[build_id]

    def finish(
        self,
        build_id: str,
        status: Outcome = "SUCCEEDED",
        *,
        reason: str | None = None,
        exported: Mapping[str, str] = {},
    ) -> None:
        """End a build; `reason` is the context message of its last phase."""
        build = self.builds[build_id]
        build.status, build.ended = status, self.clock()
        build.reason, build.exported = reason, exported
        self.on_change(build)

    def inject(self, action: str, *faults: Fault) -> None:
        """Inject faults into the next requests of an action, one each, in this order."""
        self.faults.inject(action, *faults)

    async def handle_request(self, request: web.Request) -> web.Response:
        action = request.headers.get("X-Amz-Target", "").removeprefix("CodeBuild_20161006.")
        parameters = await request.json()
        self.calls.append((action, parameters))
        fault = self.faults.take(action)

        async def respond() -> web.Response:
            try:
                if fault and fault.kind == "error":
                    raise _RefusedError(fault.code, fault.message, fault.http_status)
                return _json_response(self._perform(action, parameters))
            except _RefusedError as refused:
                return _json_response(refused.document, refused.http_status)

        return await self.faults.meet(fault, request, respond)

    def _perform(self, action: str, parameters: Document) -> Document:
        match action:
            case "StartBuild":
                return self._start_build(parameters)
            case "StopBuild":
                return self._stop_build(parameters["id"])
            case "FinishBuild":
                return self._finish_build(parameters)
            case "BatchGetBuilds":
                found, not_found = _look_up(parameters["ids"], self.builds)
                builds = [self.builds[build_id].as_document() for build_id in found]
                return {"builds": builds, "buildsNotFound": not_found}
            case "BatchGetProjects":
                found, not_found = _look_up(parameters["names"], self._builds_started)
                projects = [{"name": name, "arn": f"{_ARN}:project/{name}"} for name in found]
                return {"projects": projects, "projectsNotFound": not_found}
            case "ListBuilds":
                return self._list_builds(list(self.builds.values()), parameters)
            case "ListBuildsForProject":
                return self._list_builds_of_project(parameters)
        raise _RefusedError("UnknownOperationException", f"Unknown operation: {action}")

    def _start_build(self, parameters: Document) -> Document:
        project = self._known_project(parameters)
        token = parameters.get("idempotencyToken")
        build = self._tokens.get(token) if token else None
        if build is None or self.clock() - build.started > _TOKEN_VALID_S:
            number = self._builds_started[project] = self._builds_started[project] + 1
            build_id = f"{project}:{uuid.uuid4()}"
            self._started += 1
            build = Build(
                build_id, project, number, self._started, parameters, started=self.clock()
            )
            build.logs_in_s3 = project in self._logs_in_s3
            self.builds[build_id] = build
            if token:
                self._tokens[token] = build
            self.on_change(build)
        elif build.parameters != parameters:
            raise _RefusedError(
                "InvalidInputException",
                f"Parameter mismatch: idempotency token {token} was used with other parameters",
            )
        return {"build": {**build.as_document(), "logs": _NO_LOGS}}

    def _stop_build(self, build_id: str) -> Document:
        if build_id not in self.builds:
            raise _RefusedError("ResourceNotFoundException", f"Build {build_id} does not exist")
        if self.builds[build_id].ended is None and self.stops_at_once:
            self.finish(build_id, "STOPPED")
        return {"build": self.builds[build_id].as_document()}

    def _finish_build(self, parameters: Document) -> Document:
        """End a running build, named by its id or by the beginning of its id or of its UUID."""
        named = parameters["id"]
        running = [build for build in self.builds.values() if build.ended is None]
        meant = [
            build
            for build in running
            if build.id.startswith(named) or build.id.partition(":")[2].startswith(named)
        ]
        if len(meant) != 1:
            raise _RefusedError(
                "ResourceNotFoundException",
                f"{len(meant) or 'No'} running builds have an id that begins with {named!r}; "
                f"running: {', '.join(build.id for build in running[-10:]) or 'none'}.",
            )
        build = meant[0]
        self.finish(build.id, parameters["status"], reason=parameters.get("reason"))
        return {"build": build.as_document()}

    def _list_builds_of_project(self, parameters: Document) -> Document:
        project = self._known_project(parameters)
        builds = [build for build in self.builds.values() if build.project == project]
        if parameters.get("sortOrder") and len(builds) > _BATCH_LIMIT:
            # As AWS documents: with many builds only the default order can be listed.
            raise _RefusedError(
                "InvalidInputException", f"sortOrder needs {_BATCH_LIMIT} builds or fewer"
            )
        return self._list_builds(builds, parameters)

    def _list_builds(self, builds: list[Build], parameters: Document) -> Document:
        # A project's builds are listed by their numbers, an account's by their ids (API reference,
        # ListBuildsForProject and ListBuilds, sortOrder).
        by_id = "projectName" not in parameters

        def place(build: Build) -> str:
            return build.id if by_id else f"{build.place:09}"

        builds = builds[: max(0, len(builds) - self.listing_lag)]
        ascending = parameters.get("sortOrder") == "ASCENDING"
        if token := parameters.get("nextToken"):
            # The token is a build's position: builds started or removed don't shift the page.
            builds = [b for b in builds if (place(b) >= token if ascending else place(b) <= token)]
        builds.sort(key=place, reverse=not ascending)
        page, rest = builds[: self.page_size], builds[self.page_size :]
        answer: Document = {"ids": [build.id for build in page]}
        return answer | ({"nextToken": place(rest[0])} if rest else {})

    def _known_project(self, parameters: Document) -> str:
        name: str = parameters["projectName"]
        if name not in self._builds_started:
            message = f"Project cannot be found: {_ARN}:project/{name}"
            raise _RefusedError("ResourceNotFoundException", message)
        return name


def _look_up(names: list[str], known: Mapping[str, object]) -> tuple[list[str], list[str]]:
    if len(names) > _BATCH_LIMIT:
        message = f"1 validation error detected: at most {_BATCH_LIMIT} members are allowed"
        raise _RefusedError("InvalidInputException", message)
    return [name for name in names if name in known], [name for name in names if name not in known]


def _json_response(document: Document, http_status: int = 200) -> web.Response:
    body = json.dumps(document).encode()
    return web.Response(status=http_status, body=body, content_type="application/x-amz-json-1.1")


@asynccontextmanager
async def open_codebuild(
    *, clock: Callable[[], float] = time.time, page_size: int = _BATCH_LIMIT
) -> AsyncIterator[CodeBuildStandIn]:
    """Serve the CodeBuild stand-in alone, which needs neither threads nor moto's state."""
    listener = socket.create_server((HOST, 0))
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    codebuild = CodeBuildStandIn(url, clock, page_size)
    app = web.Application()
    app.router.add_post("/", codebuild.handle_request)
    app.on_shutdown.append(codebuild.faults.release_slow)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield codebuild
    finally:
        await runner.cleanup()
