"""A Jenkins for the tests, as its handbook and its own source describe it.

It has folders, jobs with parameters, a queue, builds, API tokens, passwords with crumbs and
sessions; it runs nothing, and forgets all once closed. Of a `tree` it heeds ranges alone.
"""

import posixpath
import re
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import attrs
from aiohttp import web

from orchestrator.embedded import Fault, Faults

HOST = "127.0.0.1"
USER = "orchestrator"
TOKEN = "11d3c4e9a0b7f6"
PASSWORD = "a password of somebody's"
START_KEY = "ORCHESTRATOR_RUN_ID"

#: Where Jenkins believes to be; behind a proxy that is not where it is asked.
ROOT = "https://builds.example.com/jenkins"
_PREFIX = "/jenkins"
_CRUMB_FIELD = "Jenkins-Crumb"
_SESSION = "JSESSIONID.stand-in"

Document = dict[str, Any]


@attrs.define
class Build:
    number: int
    timestamp: int
    building: bool = True
    result: str | None = None
    description: str | None = None


@attrs.define
class Item:
    """A start, from the queue to the end of its build."""

    id: int
    job: str
    parameters: Mapping[str, str]
    cancelled: bool = False
    build: Build | None = None
    #: The queue lists it, as waiting or as one that has left.
    in_queue: bool = True
    #: The job's rotation has discarded its build.
    is_discarded: bool = False

    @property
    def is_waiting(self) -> bool:
        return not self.cancelled and self.build is None

    @property
    def actions(self) -> list[Document | None]:
        listed = [{"name": name, "value": value} for name, value in self.parameters.items()]
        # Among other actions, which are empty if the tree requests none of their fields.
        return [{}, {"_class": "hudson.model.ParametersAction", "parameters": listed}, None]

    def as_queue_item(self) -> Document:
        document: Document = {
            "id": self.id,
            "task": {"url": f"{ROOT}/{job_path(self.job)}"},
            "actions": self.actions,
        }
        if self.is_waiting:
            return document
        document["cancelled"] = self.cancelled
        if self.build is not None:
            document["executable"] = {"number": self.build.number, "url": self._build_url}
        return document

    def as_build(self) -> Document:
        assert self.build is not None
        return {
            **attrs.asdict(self.build),
            "url": self._build_url,
            "queueId": self.id,
            "actions": self.actions,
        }

    @property
    def _build_url(self) -> str:
        return f"{ROOT}/{job_path(self.job)}{self.build.number if self.build else ''}/"


@attrs.define
class JenkinsStandIn:
    """Jenkins as its clients see it, and the methods by which a test controls it."""

    url: str
    clock: Callable[[], float] = time.time
    token: str = TOKEN
    #: Every request is redirected to the login page, as by a proxy in front.
    wants_login: bool = False
    #: A cancellation is answered as in old versions: with a redirect, whatever its result.
    is_old: bool = False
    may_cancel: bool = True
    #: How many builds that are over each job keeps by its log rotation; None: all.
    keeps: int | None = None
    #: A start is answered with its running build instead of its queue item.
    answers_with_build: bool = False
    #: Jobs that are pipelines, whose builds can be stopped in three ways, and the ways that builds
    #: ignore.
    pipelines: set[str] = attrs.field(init=False, factory=set)
    ignored_stops: set[str] = attrs.field(init=False, factory=set)
    jobs: dict[str, set[str]] = attrs.field(init=False, factory=dict)
    disabled: set[str] = attrs.field(init=False, factory=set)
    #: Parameters whose values Jenkins never shows, and those that take certain values only.
    passwords: set[str] = attrs.field(init=False, factory=set)
    choices: dict[str, list[str]] = attrs.field(init=False, factory=dict)
    items: dict[int, Item] = attrs.field(init=False, factory=dict)
    #: Method, raw path and form of each request.
    requests: list[tuple[str, str, Mapping[str, str]]] = attrs.field(init=False, factory=list)
    _builds: defaultdict[str, int] = attrs.field(init=False, factory=lambda: defaultdict(int))
    _queued: int = attrs.field(init=False, default=0)
    _sessions: dict[str, str] = attrs.field(init=False, factory=dict)
    faults: Faults = attrs.field(init=False, factory=Faults)
    _meanwhile: dict[str, Callable[[], object]] = attrs.field(init=False, factory=dict)

    def add_job(self, job: str, *parameters: str) -> None:
        """Add a job that defines the parameters, and its folders."""
        self.jobs[job] = set(parameters)

    def remove_job(self, job: str) -> None:
        """Remove a job with its builds; its waiting items are cancelled."""
        del self.jobs[job]
        for item in [item for item in self.items.values() if item.job == job]:
            item.cancelled = item.cancelled or item.is_waiting
            if item.build:
                del self.items[item.id]

    def queue(self, job: str, parameters: Mapping[str, str]) -> Item:
        """Queue a start, as a click does: equal starts that wait are one item."""
        kept = {name: value for name, value in parameters.items() if name in self.jobs[job]}
        for item in self.items.values():
            if item.is_waiting and (item.job, item.parameters) == (job, kept):
                return item
        self._queued += 1
        return self.items.setdefault(self._queued, Item(self._queued, job, kept))

    def build_again(self, queue_id: int) -> Item:
        """A new item with the same parameters, as the plugins Naginator and Rebuild make it."""
        return self.queue(self.items[queue_id].job, self.items[queue_id].parameters)

    def run_queue(self, *ids: int) -> None:
        """Have these items, or all, leave the queue as builds, in this order."""
        for queue_id in ids or tuple(self.items):
            item = self.items[queue_id]
            if item.is_waiting:
                self._builds[item.job] += 1
                item.build = Build(self._builds[item.job], timestamp=round(self.clock() * 1000))

    def finish(self, queue_id: int, result: str, description: str | None = None) -> None:
        """End the item's build; it is run first if it waits."""
        self.run_queue(queue_id)
        build = self.items[queue_id].build
        assert build is not None
        build.building, build.result, build.description = False, result, description
        self._rotate(self.items[queue_id].job)

    def _rotate(self, job: str) -> None:
        """Discard all but the newest builds that are over (Jenkins handbook, Log rotation)."""
        over = [one for one in self._built(job) if one.build and not one.build.building]
        for item in over[self.keeps :] if self.keeps is not None else ():
            item.is_discarded = True

    def _built(self, job: str) -> list[Item]:
        """The job's items whose builds are kept, the newest first."""
        items = [one for one in self.items.values() if one.job == job and one.build]
        there = [one for one in items if not one.is_discarded]
        return sorted(there, key=lambda item: -item.build.number if item.build else 0)

    def forget_queue_items(self) -> None:
        """Remove items that have left the queue from it, as Jenkins does after some minutes."""
        for item in self.items.values():
            item.in_queue = item.is_waiting

    def forget(self, queue_id: int) -> None:
        """Remove the item and its build without a trace."""
        del self.items[queue_id]

    def expire_sessions(self) -> None:
        self._sessions.clear()

    def inject(self, path_end: str, *faults: Fault) -> None:
        """Let the next requests to such a path fail, one fault each."""
        self.faults.inject(path_end, *faults)

    def meanwhile(self, path_end: str, action: Callable[[], object]) -> None:
        """Have the action happen just before the next request to such a path."""
        self._meanwhile[path_end] = action

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        path = posixpath.normpath(request.rel_url.raw_path.removeprefix(_PREFIX))
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append((request.method, path, form))
        for path_end in [one for one in self._meanwhile if path.endswith(one)]:
            self._meanwhile.pop(path_end)()
        fault = self.faults.take(next(filter(path.endswith, self.faults.left), path))

        async def respond() -> web.Response:
            if fault and fault.kind == "error":
                return web.Response(status=fault.http_status, text=fault.message)
            session = self._session(request)
            response = self._answer(request, path, form, session)
            response.set_cookie(_SESSION, session, httponly=True)
            return response

        return await self.faults.meet(fault, request, respond)

    def _session(self, request: web.Request) -> str:
        """The session that the request's cookie names, or a new one."""
        named = request.cookies.get(_SESSION, "")
        if named not in self._sessions:
            named = f"session-{len(self.requests)}"
            self._sessions[named] = f"crumb-{len(self.requests)}"
        return named

    def _answer(
        self, request: web.Request, path: str, form: Mapping[str, str], session: str
    ) -> web.Response:
        if self.wants_login:
            return _redirect(f"{ROOT}/login?from=%2Fsecret-ticket")
        secret = self._authenticate(request)
        if secret is None:
            return web.Response(status=401, text="Invalid password/token for user")
        crumb = request.headers.get(_CRUMB_FIELD)
        if request.method == "POST" and secret == PASSWORD and crumb != self._sessions[session]:
            return web.Response(status=403, text="No valid crumb was included in the request")
        if path == "/api/json":
            return web.json_response({"_class": "hudson.model.Hudson", "mode": "NORMAL"})
        if path == "/crumbIssuer/api/json":
            document = {"crumb": self._sessions[session], "crumbRequestField": _CRUMB_FIELD}
            return web.json_response(document)
        if path.startswith("/queue/"):
            return self._answer_queue(request, path.removeprefix("/queue/"))
        steps = re.fullmatch(r"((?:/job/[^/]+)+)/(.+)", path)
        if steps:
            job = "/".join(unquote(part) for part in steps[1].split("/job/")[1:])
            return self._answer_job(request, job, steps[2], form)
        return web.Response(status=404)

    def _authenticate(self, request: web.Request) -> str | None:
        header = request.headers.get("Authorization", "")
        known = {aiohttp.encode_basic_auth(USER, one): one for one in (self.token, PASSWORD)}
        return known.get(header)

    def _answer_queue(self, request: web.Request, path: str) -> web.Response:
        if path == "api/json":
            items = [one.as_queue_item() for one in self.items.values() if one.is_waiting]
            foreign = {"id": 100_000, "task": {}, "actions": [{"parameters": {"of": "a plugin"}}]}
            return web.json_response({"items": [foreign, *items]})
        if path == "cancelItem":
            return self._cancel(request, int(request.query["id"]))
        asked = re.fullmatch(r"item/(\d+)/api/json", path)
        item = self.items.get(int(asked[1])) if asked else None
        if item is None or not item.in_queue:
            return web.Response(status=404)
        return web.json_response(item.as_queue_item())

    def _cancel(self, request: web.Request, queue_id: int) -> web.Response:
        item = self.items.get(queue_id)
        status = 404
        if item is not None and item.in_queue:
            status = 500
            if not self.may_cancel:
                status = 422
            elif item.is_waiting:
                item.cancelled, status = True, 204
        return _redirect(_home(request)) if self.is_old else web.Response(status=status)

    def _answer_job(
        self, request: web.Request, job: str, path: str, form: Mapping[str, str]
    ) -> web.Response:
        if job not in self.jobs:
            is_folder = any(one.startswith(f"{job}/") for one in self.jobs)
            document = {"_class": "com.cloudbees.hudson.plugins.folder.Folder"}
            exists = is_folder and path == "api/json"
            return web.json_response(document) if exists else web.Response(status=404)
        if path == "api/json":
            return web.json_response(self._job_document(job, request.query.get("tree", "")))
        if path == "buildWithParameters" and request.method == "POST":
            if job in self.disabled:
                return web.Response(status=409, text=f"{job} is not buildable")
            if any(form.get(name, one[0]) not in one for name, one in self.choices.items()):
                return web.Response(status=500, text="Illegal choice for parameter")
            queued = self._queued
            item = self.queue(job, form)
            location = f"{_home(request)}/queue/item/{item.id}/"
            if self.answers_with_build:
                self.run_queue(item.id)
                assert item.build is not None
                location = f"{_home(request)}/{job_path(job)}{item.build.number}/"
            is_new = self._queued > queued and not self.answers_with_build
            return web.Response(status=201 if is_new else 303, headers={"Location": location})
        build = re.fullmatch(r"(\d+)/api/json", path)
        for one in self._built(job) if build else ():
            if build and one.build and one.build.number == int(build[1]):
                return web.json_response(one.as_build())
        stop = re.fullmatch(r"(\d+)/(stop|term|kill)", path)
        if stop and request.method == "POST" and (stop[2] == "stop" or job in self.pipelines):
            return self._stop(request, job, int(stop[1]), stop[2])
        return web.Response(status=404)

    def _stop(self, request: web.Request, job: str, number: int, way: str) -> web.Response:
        for item in self._built(job):
            if item.build and item.build.number == number:
                if item.build.building and way not in self.ignored_stops:
                    self.finish(item.id, "ABORTED")
                return _redirect(f"{_home(request)}/{job_path(job)}{number}/")
        return web.Response(status=404)

    def _job_document(self, job: str, tree: str) -> Document:
        definitions = [
            {
                "name": name,
                "type": "StringParameterDefinition",
                **({"choices": self.choices[name]} if name in self.choices else {}),
                **({"type": "PasswordParameterDefinition"} if name in self.passwords else {}),
            }
            for name in sorted(self.jobs[job])
        ]
        builds = [item.as_build() for item in self._built(job)]
        document: Document = {
            "url": f"{ROOT}/{job_path(job)}",
            "property": [{}, {"parameterDefinitions": definitions}] if definitions else [{}],
        }
        if "allBuilds" in tree:
            asked = re.search(r"\{(\d+),(\d+)\}", tree)
            document["allBuilds"] = builds[int(asked[1]) : int(asked[2])] if asked else builds
        return document


def job_path(job: str) -> str:
    """Where a job is, as Jenkins writes it."""
    return "".join(f"job/{quote(part, safe='')}/" for part in job.split("/"))


def _home(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}{_PREFIX}"


def _redirect(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})


@asynccontextmanager
async def open_jenkins_stand_in(
    *, jobs: Mapping[str, Sequence[str]] = {}, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[JenkinsStandIn]:
    """Serve the stand-in, with jobs that define these parameters."""
    listener = socket.create_server((HOST, 0))
    scheme = "https" if ssl_context else "http"
    jenkins = JenkinsStandIn(f"{scheme}://{HOST}:{listener.getsockname()[1]}{_PREFIX}")
    for job, parameters in jobs.items():
        jenkins.add_job(job, *parameters)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", jenkins.handle_request)
    app.on_shutdown.append(jenkins.faults.release_slow)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=ssl_context).start()
    try:
        yield jenkins
    finally:
        await runner.cleanup()
