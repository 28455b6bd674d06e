"""Models of Jenkins' jobs, queue items and builds, and their interpretation as jobs.

A job starts as a queue item and becomes a build with the item's id as `queueId`; Jenkins forgets
the item some minutes after it has left the queue. So a job's id here consists of the item's id and
of the start key, since a Jenkins that crashed may reuse item ids.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

import attrs
import msgspec

from orchestrator.core.identifiers import START_KEY
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.texts import shorten

PARAMETERS = "actions[parameters[name,value]]"
BUILD = f"number,url,queueId,timestamp,building,result,description,{PARAMETERS}"
QUEUE_ITEM = f"id,task[url],cancelled,executable[number,url],{PARAMETERS}"

_STATUSES = {
    "SUCCESS": JobStatus.SUCCEEDED,
    "FAILURE": JobStatus.FAILED,
    "ABORTED": JobStatus.STOPPED,
}
_JOB_ID = re.compile(r"(.*)#(\d+):(.+)")
_JOB_PATH = re.compile(r"(?:/job/[^/?#]+)+/?$")
_BUILD_PATH = re.compile(r"((?:/job/[^/?#]+)+)/(\d+)/?$")


@attrs.frozen
class Place:
    """Identifies a job of the service: the Jenkins job, its queue item and its start key."""

    job_identifier: str
    queue_id: int
    start_key: str

    @property
    def job_id(self) -> str:
        """The job's id, the same for the queue item and for its build."""
        return f"{self.job_identifier}#{self.queue_id}:{self.start_key}"


class Action(msgspec.Struct):
    #: A list of names and values for builds with parameters; in a plugin's action anything.
    parameters: Any = None


class Carrier(msgspec.Struct, rename="camel"):
    """A queue item or build; one of its actions may have the parameters of its start."""

    actions: list[Action | None] = []

    @property
    def start_key(self) -> str | None:
        """The start key, None if it has none."""
        for action in self.actions:
            listed = action.parameters if action else None
            for parameter in listed if isinstance(listed, list) else ():
                match parameter:
                    case {"name": str(name), "value": str(value)} if name == START_KEY:
                        return value
        return None


class Build(Carrier, kw_only=True, rename="camel"):
    number: int
    url: str
    queue_id: int
    #: Milliseconds since 1970.
    timestamp: int
    building: bool
    result: str | None = None
    description: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the build is over: one that is still running may have a result already."""
        return not self.building and self.result is not None

    def place(self, job_identifier: str) -> Place:
        return Place(job_identifier, self.queue_id, self.start_key or "")

    def report(self, job_identifier: str, builder: str, *, unstable: JobStatus) -> JobDescription:
        """Describe the build; `unstable` is the status for UNSTABLE."""
        status, message = JobStatus.IN_PROGRESS, None
        if self.result is not None and self.is_over:
            statuses = {**_STATUSES, "UNSTABLE": unstable}
            status = statuses.get(self.result, JobStatus.FAILED)
            # Several results share one status, so the message names the result.
            result = None if self.result in _STATUSES else self.result
            message = ": ".join(filter(None, (result, (self.description or "").strip())))
        return JobDescription(
            job=identified_job(self.place(job_identifier), builder, f"{self.url}console"),
            status=status,
            start_key=self.start_key,
            message=shorten(message) if message else None,
        )


class Executable(msgspec.Struct):
    number: int
    url: str


class Task(msgspec.Struct):
    url: str = ""


class QueueItem(Carrier, kw_only=True, rename="camel"):
    id: int
    task: Task = msgspec.field(default_factory=Task)
    cancelled: bool = False
    #: The item's build, once it has left the queue.
    executable: Executable | None = None

    @property
    def is_waiting(self) -> bool:
        return not self.cancelled and self.executable is None

    @property
    def job_identifier(self) -> str:
        """The job to be built; empty if the task is not a job's."""
        path = _JOB_PATH.search(self.task.url)
        return _identifier(path[0]) if path else ""

    def place(self, job_identifier: str) -> Place:
        return Place(job_identifier, self.id, self.start_key or "")

    def report(self, job_identifier: str, builder: str) -> JobDescription:
        url = f"{self.executable.url}console" if self.executable else self.task.url
        return JobDescription(
            job=identified_job(self.place(job_identifier), builder, url),
            status=JobStatus.STOPPED if self.cancelled else JobStatus.IN_PROGRESS,
            start_key=self.start_key,
            message="it was cancelled in Jenkins' queue" if self.cancelled else None,
        )


class Queue(msgspec.Struct):
    items: list[QueueItem]


class Definition(msgspec.Struct):
    """A parameter that a job defines; `choices` are its allowed values, None allows any text."""

    name: str
    type: str = ""
    choices: list[Any] | None = None

    @property
    def is_hidden(self) -> bool:
        """Whether Jenkins hides a build's value of it."""
        return self.type == "PasswordParameterDefinition"


class Property(msgspec.Struct, rename="camel"):
    parameter_definitions: list[Definition] = []


class JobDocument(msgspec.Struct, rename="camel"):
    """A job: its parameter definitions, and some of its builds, the newest first."""

    url: str = ""
    properties: list[Property | None] = msgspec.field(name="property", default_factory=list)
    all_builds: list[Build] = []

    @property
    def parameters(self) -> dict[str, Definition]:
        """The parameters that it defines, by name."""
        known = (one.parameter_definitions for one in self.properties if one is not None)
        return {definition.name: definition for definitions in known for definition in definitions}


class Server(msgspec.Struct):
    """The Jenkins server."""

    mode: str


def job_path(job_identifier: str) -> str | None:
    """`a/b` as `job/a/job/b/`, percent-encoded; None if it can't be a job's name."""
    parts = job_identifier.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    return "".join(f"job/{quote(part)}/" for part in parts)


def read_build_url(url: str, job_identifier: str) -> int | None:
    """The number of the job's build at a URL; None if it is another page."""
    build = _BUILD_PATH.search(url)
    return int(build[2]) if build and _identifier(build[1]) == job_identifier else None


def _identifier(path: str) -> str:
    """`/job/a/job/b/` as `a/b`."""
    return "/".join(map(unquote, path.rstrip("/").split("/job/")[1:]))


def read_job_id(job_id: str) -> Place | None:
    """Parse a job id; None if it is not one of this builder."""
    match = _JOB_ID.fullmatch(job_id)
    return Place(match[1], int(match[2]), match[3]) if match else None


def identified_job(place: Place, builder: str, url: str) -> Job:
    """The job at a place, with the id that stays the same for its build."""
    return Job(
        id=place.job_id,
        builder=builder,
        job_identifier=place.job_identifier,
        log_url=url or None,
    )
