"""Builds the service as a web app, a queue worker, a library, or a sub-app of another app."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from orchestrator.adapters.key_documents import open_key_documents
from orchestrator.adapters.tracing import traced_requests
from orchestrator.core.dispatch.orchestrator import EventOrchestrator
from orchestrator.core.handlers.extension import Extension
from orchestrator.core.metrics import NO_METRICS, Metrics
from orchestrator.core.queue.enqueue import Enqueuer
from orchestrator.intake import (
    console,
    docs_api,
    events_api,
    me_api,
    metrics,
    operations_api,
    overview_api,
    runs_api,
    status_api,
    tenants_api,
)
from orchestrator.intake.app_keys import (
    CHECKS,
    CREDENTIALS,
    DRAINS,
    ID_HEADERS,
    INTAKE,
    MAX_BODY_BYTES,
    ORCHESTRATOR,
    OWN_ORCHESTRATOR,
    RECEIVE_TIMEOUT_S,
    REGISTRY,
    REPLAY,
    TRANSACTIONS,
    WIRE,
    WORKLOAD,
)
from orchestrator.intake.auth import AUTH_METHODS, AuthMethod, authentication
from orchestrator.intake.auth_methods.choose import choose_methods
from orchestrator.intake.auth_methods.key_documents import KEY_DOCUMENTS
from orchestrator.intake.browsers import add_security_headers, protect_from_other_origins
from orchestrator.intake.connections import CONNECTION_LIMITS, ConnectionLimits
from orchestrator.intake.exposure import warn_if_exposed
from orchestrator.intake.links import BASE_PATH, EVENT_PATHS, below
from orchestrator.intake.metrics import METRICS
from orchestrator.intake.problems import answer_problems
from orchestrator.intake.queue_worker import MESSAGES, MessageHandler, QueueWorker
from orchestrator.intake.readiness import share_checks
from orchestrator.intake.refusal_log import REFUSALS, RefusalLog
from orchestrator.intake.workload import Workload, answer_reads_by
from orchestrator.parts import Parts, open_parts
from orchestrator.settings import PLAIN_PATH, Settings, SettingsError

#: Fargate and Kubernetes kill a process 30 s after SIGTERM; closing takes some more of them.
DRAIN_S = 20.0

_ROUTES = (
    *(
        api.routes
        for api in (
            events_api,
            runs_api,
            tenants_api,
            operations_api,
            overview_api,
            me_api,
            status_api,
            docs_api,
            console,
        )
    ),
    status_api.health_routes,
)


def _routes(chosen: Parts) -> Sequence[web.RouteTableDef]:
    """The routes of the app; those of the metrics if they can be read here."""
    can_be_read = isinstance(chosen.metrics, metrics.Exposition)
    return (*_ROUTES, metrics.routes) if can_be_read else _ROUTES


def _further_event_routes(chosen: Parts) -> Sequence[web.RouteTableDef]:
    """The routes of events at `http.event_paths`."""
    return [events_api.routes_at(path) for path in chosen.settings.http.event_paths]


@asynccontextmanager
async def open_orchestrator(
    settings: Settings | None = None, *, extension: Extension | None = None, **parts: Any
) -> AsyncIterator[EventOrchestrator]:
    """The orchestrator without a web server, for the life of the context.

    `settings` None uses the environment over the defaults, with an in-memory ledger. `extension`
    None uses the one that the settings name. `parts` replace the default ports: `clock`, `ids`,
    `dice`, `ledger`, `inbox`, `publisher`, `metrics`, `tracing`.
    """
    async with open_parts(Parts.choose(settings, extension, **parts)) as opened:
        yield opened.chosen


def create_app(
    settings: Settings | None = None,
    *,
    extension: Extension | None = None,
    drain_s: float = DRAIN_S,
    hands_back: bool = False,
    **parts: Any,
) -> web.Application:
    """The web app, with the arguments of `open_orchestrator`; also served at `http.base_path`.

    At shutdown runs in progress have `drain_s` seconds to finish; then they are handed back.
    `hands_back` is for platforms where no task continues after an answer (Lambda): a run that
    exceeds the deadline is handed back instead of continued.

    Raises:
        SettingsError: `http.base_path` or one of `http.event_paths` begins like a route of the
            service.
    """
    chosen = _choose(settings, extension, parts)
    app = _build_app(chosen, drain_s=drain_s, hands_back=hands_back)
    if not app[AUTH_METHODS] and not chosen.settings.auth.allow_open:
        app.on_response_prepare.append(warn_if_exposed())
    base_path = chosen.settings.http.base_path
    if base_path:
        _check_free(base_path, app, f"The setting http.base_path is {base_path!r}")
        app[BASE_PATH] = base_path
        for routes in (*_routes(chosen), *_further_event_routes(chosen)):
            app.add_routes(below(base_path, routes))
    return app


def _choose(
    settings: Settings | None, extension: Extension | None, parts: Mapping[str, Any]
) -> Parts:
    given = parts if "metrics" in parts else {"metrics": _readable_metrics(), **parts}
    return Parts.choose(settings, extension, **given)


def _readable_metrics() -> Metrics:
    """Prometheus' metrics; without the extra `service` there are none, and no route for them."""
    try:
        from orchestrator.adapters.prometheus import PrometheusMetrics
    except ModuleNotFoundError as missing:
        if missing.name != "prometheus_client":
            raise
        return NO_METRICS
    return PrometheusMetrics()


def _build_app(chosen: Parts, *, drain_s: float, hands_back: bool = False) -> web.Application:
    workload = Workload(
        max_concurrency=chosen.settings.http.max_concurrency,
        sender_share=chosen.settings.http.sender_share,
        deadline_s=chosen.settings.intake.deadline_s,
        hands_back=hands_back,
    )
    in_time = answer_reads_by(lambda: workload.deadline_s)
    methods = choose_methods(chosen.settings.auth, chosen.clock, is_lambda=hands_back)
    protected = protect_from_other_origins(chosen.settings.http.allowed_hosts)
    traced = traced_requests(chosen.tracing)
    app = web.Application(
        middlewares=[*traced, answer_problems, protected, in_time, *authentication(methods)]
    )
    app.on_response_prepare.append(add_security_headers)
    _measure(app, chosen)
    app[REGISTRY] = chosen.registry
    app[WIRE] = chosen.wire
    app[WORKLOAD] = app[DRAINS] = workload
    _authenticate(app, methods)
    app[ID_HEADERS] = chosen.settings.events.id_headers
    app[MAX_BODY_BYTES] = chosen.settings.http.max_body_bytes
    app[RECEIVE_TIMEOUT_S] = chosen.settings.http.receive_timeout_s
    app[CONNECTION_LIMITS] = ConnectionLimits.of(chosen.settings.http)
    for routes in _routes(chosen):
        app.add_routes(routes)
    app[EVENT_PATHS] = chosen.settings.http.event_paths
    for path in app[EVENT_PATHS]:
        _check_free(path, app, f"The setting http.event_paths has {path!r}")
    for routes in _further_event_routes(chosen):
        app.add_routes(routes)

    queue = chosen.settings.intake.queue_name

    async def keep_orchestrator_open(app: web.Application) -> AsyncIterator[None]:
        async with open_parts(chosen, sweeps=not hands_back) as opened:
            app[ORCHESTRATOR] = opened.chosen
            app[OWN_ORCHESTRATOR] = opened.own
            app[TRANSACTIONS] = opened.own.services.transactions
            entry = opened.entry
            app[MESSAGES] = MessageHandler(opened.own, entry, app[REFUSALS], queue=queue)
            app[CREDENTIALS] = opened.ports.credentials
            checks = share_checks(opened.checks, chosen.clock)
            app[CHECKS] = {"draining": app[WORKLOAD].check, **checks}
            app[INTAKE], app[REPLAY] = entry, opened.own.replay
            if chosen.settings.intake.mode == "queue" and opened.inbox is not None:
                enqueuer = Enqueuer(orchestrator=opened.own, inbox=opened.inbox, queue=queue)
                app[INTAKE], app[REPLAY] = enqueuer, enqueuer.replay
            yield

    app.cleanup_ctx.append(keep_orchestrator_open)

    async def drain(app: web.Application) -> None:
        await app[DRAINS].drain(timeout_s=0 if hands_back else drain_s)

    app.on_shutdown.append(drain)
    app.on_startup.append(docs_api.prepare_document)
    return app


def create_worker_app(
    settings: Settings, *, extension: Extension | None = None, **parts: Any
) -> web.Application:
    """The worker, which consumes events from the queue; its web app has health checks and metrics.

    Raises:
        SettingsError: no queue is configured.
    """
    chosen = _choose(settings, extension, parts)
    if settings.intake.queue_url is None:
        raise SettingsError("A worker needs a queue: set intake.queue_url.")
    in_time = answer_reads_by(lambda: settings.intake.deadline_s)
    methods = choose_methods(settings.auth, chosen.clock)
    app = web.Application(middlewares=[answer_problems, in_time, *authentication(methods)])
    app.on_response_prepare.append(add_security_headers)
    _measure(app, chosen)
    _authenticate(app, methods)
    app.add_routes(status_api.health_routes)
    if METRICS in app:
        app.add_routes(metrics.routes)
    app[CONNECTION_LIMITS] = ConnectionLimits.of(settings.http)

    async def keep_working(app: web.Application) -> AsyncIterator[None]:
        async with open_parts(chosen) as opened:
            assert opened.inbox is not None  # noqa: S101 - its URL is set
            app[MESSAGES] = MessageHandler(
                opened.own, opened.entry, app[REFUSALS], queue=settings.intake.queue_name
            )
            app[CREDENTIALS] = opened.ports.credentials
            worker = QueueWorker(
                opened.inbox,
                app[MESSAGES].handle,
                chosen.clock,
                is_ready=opened.own.services.transactions.ledger.check,
                concurrency=settings.intake.concurrency,
                metrics=chosen.metrics,
            )
            app[DRAINS] = worker
            checks = share_checks(opened.checks, chosen.clock)
            app[CHECKS] = {"draining": worker.check, **checks}
            task = asyncio.create_task(worker.run())
            yield
            await worker.drain(timeout_s=0)
            await task

    app.cleanup_ctx.append(keep_working)
    return app


def _authenticate(app: web.Application, methods: Sequence[AuthMethod]) -> None:
    app[AUTH_METHODS] = methods

    async def fetch_keys(app: web.Application) -> AsyncIterator[None]:
        async with open_key_documents() as app[KEY_DOCUMENTS]:
            yield

    app.cleanup_ctx.append(fetch_keys)


def _measure(app: web.Application, chosen: Parts) -> None:
    """The metrics, and the log of refusals: opened first and closed last, so that refusals during
    shutdown are logged, too."""
    if isinstance(chosen.metrics, metrics.Exposition):
        app[METRICS] = chosen.metrics
    app[REFUSALS] = RefusalLog(chosen.clock, chosen.metrics)

    async def keep_writing(app: web.Application) -> AsyncIterator[None]:
        async with app[REFUSALS].written_regularly():
            yield

    app.cleanup_ctx.append(keep_writing)


def setup(
    app: web.Application,
    *,
    prefix: str = "/orchestrator",
    settings: Settings | None = None,
    extension: Extension | None = None,
    drain_s: float = DRAIN_S,
    **parts: Any,
) -> None:
    """Mount the service in your own app, with its routes under `prefix`.

    Your app then has `app[REGISTRY]` and, once started, `app[ORCHESTRATOR]`; if you mount several,
    those of the first. The other arguments are those of `create_app`. The settings of
    `http.base_path`, host and port are ignored here.

    Raises:
        SettingsError: the prefix is no path, an app is mounted there already, or as for
            `create_app`.
    """
    if not PLAIN_PATH.fullmatch(prefix.rstrip("/")):
        raise SettingsError(
            f"The service's prefix is {prefix!r}: it must be like /orchestrator/v1, beginning with "
            "a slash, of letters, digits and -._~"
        )
    if prefix.rstrip("/") in _mounts(app):
        raise SettingsError(
            f"The service's prefix is {prefix!r}, where an app is mounted already: choose another."
        )
    inner = _build_app(_choose(settings, extension, parts), drain_s=drain_s)
    app.add_subapp(prefix, inner)
    if REGISTRY in app:
        return
    app[REGISTRY] = inner[REGISTRY]

    async def share_orchestrator(app: web.Application) -> None:
        app[ORCHESTRATOR] = inner[ORCHESTRATOR]

    app.on_startup.append(share_orchestrator)


def _mounts(app: web.Application) -> set[str]:
    resources = app.router.resources()
    return {one.canonical for one in resources if isinstance(one, web.PrefixedSubAppResource)}


def _check_free(path: str, app: web.Application, setting: str) -> None:
    """Raises SettingsError if the path begins like a route; `setting` begins its sentence."""
    first = path.split("/")[1]
    taken = {resource.canonical.split("/")[1] for resource in app.router.resources()}
    if first in taken:
        raise SettingsError(
            f"{setting}, but the service has routes at /{first}: choose another path."
        )
