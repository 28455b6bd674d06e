"""The composition root: settings and extension in, adapters chosen, a web app or a library out.

The only module that names concrete classes. Nothing is wired at import time.
"""

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import attrs
import structlog
from aiohttp import web

from orchestrator.adapters.aws import AWS, open_aws
from orchestrator.adapters.codebuild import CodeBuildBuilder
from orchestrator.adapters.dynamodb_tiers import DynamoDBTierCatalog
from orchestrator.adapters.memory import InMemoryLedger
from orchestrator.adapters.system import RandomIds, SystemClock
from orchestrator.adapters.tiers import CachedTierCatalog, FunctionTierCatalog, StaticTierCatalog
from orchestrator.core.dispatch import EventOrchestrator, Limits, Orchestrator
from orchestrator.core.events import AWS_ALIASES
from orchestrator.core.extension import Extension
from orchestrator.core.handlers import built_in_handlers
from orchestrator.core.ports import Builder, Clock, Ids, Ledger, TierCatalog
from orchestrator.core.registry import HandlerRegistry
from orchestrator.core.run import Services
from orchestrator.intake import docs_api, events_api, runs_api, status_api
from orchestrator.intake.keys import CHECKS, LEDGER, MAX_BODY_BYTES, ORCHESTRATOR, REGISTRY, WIRE
from orchestrator.intake.problems import answer_problems
from orchestrator.settings import Settings, load_settings
from orchestrator.wire import Wire

log = structlog.get_logger("orchestrator.app")


@attrs.frozen(kw_only=True)
class Parts:
    """The ports that an app is made with; what is left out is the real thing."""

    clock: Clock = attrs.field(factory=SystemClock)
    ids: Ids = attrs.field(factory=RandomIds)
    ledger: Ledger | None = None


@asynccontextmanager
async def open_orchestrator(
    settings: Settings | None = None, *, extension: Extension | None = None, **parts: Any
) -> AsyncIterator[EventOrchestrator]:
    """The orchestrator without a web server, for the life of the context.

    `settings` None: the defaults and the environment. `parts` are those of `Parts`.
    """
    settings = settings or load_settings()
    extension = extension or Extension()
    ports = Parts(**parts)
    ledger = ports.ledger or InMemoryLedger(ports.clock)
    registry = extension.registry.over(built_in_handlers())
    async with _open(settings, extension, registry, ports, ledger, Wire()) as orchestrator:
        yield orchestrator


def create_app(
    settings: Settings | None = None, *, extension: Extension | None = None, **parts: Any
) -> web.Application:
    """The web app, to be run or mounted.

    `settings` None: the defaults and the environment. `parts` are those of `Parts`.
    """
    settings = settings or load_settings()
    extension = extension or Extension()
    ports = Parts(**parts)
    ledger = ports.ledger or InMemoryLedger(ports.clock)
    app = web.Application(middlewares=[answer_problems])
    app[REGISTRY] = extension.registry.over(built_in_handlers())
    app[LEDGER] = ledger
    app[WIRE] = Wire()
    app[CHECKS] = {"ledger": ledger.check}
    app[MAX_BODY_BYTES] = settings.http.max_body_bytes
    for api in (status_api, docs_api, events_api, runs_api):
        app.add_routes(api.routes)

    async def keep_orchestrator_open(app: web.Application) -> AsyncIterator[None]:
        async with _open(
            settings, extension, app[REGISTRY], ports, ledger, app[WIRE]
        ) as orchestrator:
            app[ORCHESTRATOR] = orchestrator
            yield

    app.cleanup_ctx.append(keep_orchestrator_open)
    app.on_startup.append(docs_api.build_document_once)
    return app


@asynccontextmanager
async def _open(
    settings: Settings,
    extension: Extension,
    registry: HandlerRegistry,
    ports: Parts,
    ledger: Ledger,
    wire: Wire,
) -> AsyncIterator[EventOrchestrator]:
    if isinstance(ledger, InMemoryLedger):
        log.warning("the ledger is in memory: runs and tenants are forgotten when the process ends")
    lifespan = extension.lifespan or nullcontext
    async with (
        open_aws(
            dynamodb_region=settings.aws.dynamodb_region,
            connect_timeout_s=settings.aws.connect_timeout_s,
            read_timeout_s=settings.aws.read_timeout_s,
        ) as aws,
        lifespan() as resources,
    ):
        default = Orchestrator(
            registry=registry,
            services=Services(
                ledger=ledger,
                tiers=_tiers(settings, extension, aws, ports.clock),
                builders=_builders(extension, aws),
                default_builder=settings.builders.default,
                structure=wire,
                clock=ports.clock,
                resources=resources,
            ),
            ids=ports.ids,
            aliases={**AWS_ALIASES, **settings.events.aliases},
            limits=Limits(
                max_attempts=settings.runs.max_attempts,
                dedupe_window_s=settings.events.dedupe_window_s,
            ),
        )
        yield _chosen_orchestrator(extension, default)


def _tiers(settings: Settings, extension: Extension, aws: AWS, clock: Clock) -> TierCatalog:
    if extension.tiers is not None:
        catalog = extension.tiers
        return catalog if hasattr(catalog, "find_tier") else FunctionTierCatalog(catalog)
    if settings.tiers.backend == "static":
        return StaticTierCatalog(settings.tiers.static)
    catalog = DynamoDBTierCatalog(aws.dynamodb, table=settings.tiers.table)
    return CachedTierCatalog(catalog, clock, keep_s=settings.tiers.cache_s)


def _builders(extension: Extension, aws: AWS) -> Mapping[str, Builder]:
    return {"CODE_BUILD": CodeBuildBuilder(aws.codebuild, name="CODE_BUILD"), **extension.builders}


def _chosen_orchestrator(extension: Extension, default: Orchestrator) -> EventOrchestrator:
    """Ours, or the user's: an object in its place, or what a function or class makes around it."""
    given = extension.orchestrator
    if given is None:
        return default
    is_object = hasattr(given, "handle_event") and not inspect.isclass(given)
    chosen: EventOrchestrator = given if is_object else given(default)
    return chosen
