"""Chooses and opens the parts of the service that the app, the worker and the command line run."""

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import attrs
import structlog

from orchestrator.adapters.clock import RandomDice, RandomIds, SystemClock
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.adapters.ledgers import choose_ledger
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.adapters.sqs.inbox import open_inbox
from orchestrator.adapters.tracing import choose_tracing
from orchestrator.composition import (
    Ports,
    open_configured_aws,
    open_ports,
)
from orchestrator.core.clock import Clock, Dice, Ids
from orchestrator.core.dispatch.orchestrator import (
    SWEEP_SHARE,
    EventOrchestrator,
    Limits,
    Orchestrator,
)
from orchestrator.core.dispatch.passing_on import WatchedOrchestrator
from orchestrator.core.dispatch.sweep import swept_regularly
from orchestrator.core.errors import RegistrationError
from orchestrator.core.events.event_types import AWS_ALIASES
from orchestrator.core.events.publisher import Publisher
from orchestrator.core.handlers.builtin import built_in_handlers
from orchestrator.core.handlers.extension import Extension, load_extension
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.metrics import NO_METRICS, Metrics
from orchestrator.core.queue.inbox import Inbox
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.tracing import Tracing
from orchestrator.intake.app_keys import Check
from orchestrator.settings import Settings, load_settings
from orchestrator.wire.converter import JsonConverter

log = structlog.get_logger("orchestrator.parts")


@attrs.frozen(kw_only=True)
class Parts:
    """The parts of the service; `ledger`, `inbox` and `publisher` None use the configured ones."""

    settings: Settings
    extension: Extension
    registry: HandlerRegistry
    wire: JsonConverter
    secrets: Redactor
    clock: Clock
    ids: Ids
    dice: Dice
    ledger: Ledger | None
    inbox: Inbox | None
    publisher: Publisher | None
    metrics: Metrics
    tracing: Tracing

    @property
    def aliases(self) -> Mapping[str, str]:
        """Aliases of event types: the built-in ones, and those of the settings."""
        return {**AWS_ALIASES, **BUILT_IN_NOTIFICATIONS.aliases, **self.settings.events.aliases}

    @classmethod
    def choose(
        cls,
        settings: Settings | None,
        extension: Extension | None,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        dice: Dice | None = None,
        ledger: Ledger | None = None,
        inbox: Inbox | None = None,
        publisher: Publisher | None = None,
        metrics: Metrics = NO_METRICS,
        tracing: Tracing | None = None,
    ) -> "Parts":
        settings = settings or load_settings(ledger_backend="memory")
        if extension is None and settings.extension is not None:
            extension = load_extension(settings.extension)
        extension = Extension() if extension is None else extension
        if not isinstance(extension, Extension):
            raise RegistrationError(
                f"The extension is {type(extension).__name__}: it must be an Extension, such as "
                "Extension(registry=registry)."
            )
        secrets = Redactor(settings.log.redact)
        return cls(
            settings=settings,
            extension=extension,
            registry=extension.registry.over(built_in_handlers()),
            wire=JsonConverter(secrets),
            secrets=secrets,
            clock=clock or SystemClock(),
            ids=ids or RandomIds(),
            dice=dice or RandomDice(),
            ledger=ledger,
            inbox=inbox,
            publisher=publisher,
            metrics=metrics,
            tracing=tracing or choose_tracing(settings.telemetry.traces),
        )

    def open_ports(self) -> AbstractAsyncContextManager[Ports]:
        """Open the adapters that the settings and the extension choose."""
        return open_ports(
            self.settings,
            self.extension,
            structure=self.wire,
            secrets=self.secrets,
            clock=self.clock,
            ids=self.ids,
            ledger=self.ledger,
            inbox=self.inbox,
            publisher=self.publisher,
            metrics=self.metrics,
            tracing=self.tracing,
        )


@attrs.frozen
class OpenService:
    """The service's own orchestrator, and the one that handles events: that or the extension's."""

    own: Orchestrator
    chosen: EventOrchestrator
    ports: Ports

    @property
    def entry(self) -> EventOrchestrator:
        """What events are handed to."""
        is_own = self.chosen is self.own
        return self.chosen if is_own else WatchedOrchestrator(self.chosen, self.own)

    @property
    def inbox(self) -> Inbox | None:
        return self.ports.inbox

    @property
    def checks(self) -> Mapping[str, Check]:
        """The readiness checks, by name."""
        queue = {} if self.inbox is None else {"queue": self.inbox.check}
        return {"ledger": self.own.services.transactions.ledger.check, **queue}


@asynccontextmanager
async def open_parts(parts: Parts, *, sweeps: bool = True) -> AsyncIterator[OpenService]:
    """Open the service for the life of the context; with `sweeps` a timer sweeps regularly."""
    settings = parts.settings
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(parts.open_ports())
        services = ports.services
        if isinstance(services.transactions.ledger, InMemoryLedger):
            log.warning("the ledger is in memory: its items are lost when the process ends")
        if trouble := settings.callback_trouble:
            log.warning(trouble)
        if services.dry_run:
            log.warning("a dry run: nothing is started, published or reported")
        own = Orchestrator(
            registry=parts.registry,
            services=services,
            ids=parts.ids,
            dice=parts.dice,
            aliases=parts.aliases,
            limits=Limits(
                sweep_s=settings.intake.deadline_s * SWEEP_SHARE,
                stops_overdue=settings.operations.stop_overdue,
                cleans_up_unknown=settings.operations.clean_up_unknown,
            ),
        )
        every_s = settings.operations.reconcile_every_s
        if sweeps and every_s:
            await stack.enter_async_context(
                swept_regularly(own.reconcile, parts.clock, every_s=every_s)
            )
        yield OpenService(own, _chosen_orchestrator(parts.extension, own), ports)


async def sweep_once(settings: Settings) -> int:
    """Sweep once; returns how many runs and operations were resumed."""
    async with open_parts(Parts.choose(settings, None), sweeps=False) as opened:
        return (await opened.own.reconcile()).begun


@asynccontextmanager
async def open_transactions(settings: Settings) -> AsyncIterator[Transactions]:
    """Transactions on the configured ledger alone, for the life of the context."""
    clock = SystemClock()
    async with open_configured_aws(settings) as aws:
        ledger = choose_ledger(settings.ledger, aws, clock)
        yield Transactions(ledger=ledger, clock=clock, timings=Timings())


async def make_ends(settings: Settings) -> Mapping[str, bool]:
    """Create the configured ledger table, or its missing parts, and the queue: the name of each,
    and whether it was created (False: it already exists)."""
    made = {}
    async with open_configured_aws(settings) as aws:
        ledger = choose_ledger(settings.ledger, aws, SystemClock())
        if isinstance(ledger, DynamoDBLedger):
            name = f"ledger table {settings.ledger.table}"
            parts = await ledger.create()
            made[name] = "table" in parts
            made |= {f"{part} of the {name}": True for part in parts if part != "table"}
        inbox = open_inbox(settings.intake, aws)
        if inbox is not None:
            made[f"queue {settings.intake.queue_url}"] = await inbox.create()
    return made


def _chosen_orchestrator(extension: Extension, default: Orchestrator) -> EventOrchestrator:
    """The default orchestrator or the extension's: an object, or one that a function or class
    creates around the default."""
    given = extension.orchestrator
    if given is None:
        return default
    is_object = hasattr(given, "handle_event") and not inspect.isclass(given)
    chosen: EventOrchestrator = given if is_object else given(default)
    if not callable(getattr(chosen, "handle_event", None)):
        raise RegistrationError(
            f"The extension's orchestrator is {type(chosen).__name__}: it needs "
            "async handle_event(event_type, body)."
        )
    return chosen
