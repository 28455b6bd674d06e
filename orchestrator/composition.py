"""What an app is made of: settings and extension in, adapters chosen, everything opened.

The composition root. The only module that names concrete classes; nothing is wired at import time.
"""

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from functools import partial

import attrs
import structlog

from orchestrator.adapters.aws import AWS, open_aws
from orchestrator.adapters.codebuild import CodeBuildBuilder
from orchestrator.adapters.codebuild_listings import BuildListings
from orchestrator.adapters.control_plane import open_webhook
from orchestrator.adapters.credentials import StoredCredentials
from orchestrator.adapters.dry_run import DryRunBuilder, DryRunPublisher
from orchestrator.adapters.dynamodb_ledger import DynamoDBLedger
from orchestrator.adapters.dynamodb_tiers import DynamoDBTierCatalog
from orchestrator.adapters.eventbridge import EventBridgePublisher, NoPublisher
from orchestrator.adapters.jenkins.builder import open_jenkins
from orchestrator.adapters.memory import InMemoryLedger
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.adapters.secret_stores import ParameterStore, SecretsManagerStore
from orchestrator.adapters.sqs_inbox import SQSInbox
from orchestrator.adapters.step_functions import StepFunctionsBuilder
from orchestrator.adapters.system import RandomDice, RandomIds, SystemClock
from orchestrator.adapters.tiers import CachedTierCatalog, FunctionTierCatalog, StaticTierCatalog
from orchestrator.core.books import Books
from orchestrator.core.builds import CODE_BUILD
from orchestrator.core.conditions import Terms
from orchestrator.core.dispatch import SWEEP_SHARE, EventOrchestrator, Limits, Orchestrator
from orchestrator.core.errors import RegistrationError
from orchestrator.core.events import AWS_ALIASES
from orchestrator.core.executions import STEP_FUNCTIONS
from orchestrator.core.extension import Extension, load_extension
from orchestrator.core.handlers import built_in_handlers
from orchestrator.core.lifecycle import Kind
from orchestrator.core.ports import (
    Builder,
    Clock,
    Credentials,
    Dice,
    Ids,
    Inbox,
    Ledger,
    Publisher,
    SecretStore,
    TierCatalog,
)
from orchestrator.core.registry import HandlerRegistry
from orchestrator.core.reporting import CallbackTerms
from orchestrator.core.secrets import Redactor
from orchestrator.core.services import Services
from orchestrator.core.sweep import swept_regularly
from orchestrator.core.vault import Vault
from orchestrator.intake.keys import (
    Check,
)
from orchestrator.settings import Builders, Settings, SettingsError, load_settings
from orchestrator.wire import Wire

#: The name under which Jenkins is registered as a builder.
JENKINS = "JENKINS"

log = structlog.get_logger("orchestrator.composition")


@attrs.frozen(kw_only=True)
class Parts:
    """What an app is made of. A port that is left out is the real thing."""

    settings: Settings
    extension: Extension
    registry: HandlerRegistry
    wire: Wire
    secrets: Redactor
    clock: Clock
    ids: Ids
    dice: Dice
    ledger: Ledger | None
    inbox: Inbox | None

    @property
    def aliases(self) -> Mapping[str, str]:
        """Foreign names of event types: those that are known, and those of the settings."""
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
    ) -> "Parts":
        settings = settings or load_settings(ledger_backend="memory")
        if extension is None and settings.extension is not None:
            extension = load_extension(settings.extension)
        extension = extension or Extension()
        secrets = Redactor(settings.log.redact)
        return cls(
            settings=settings,
            extension=extension,
            registry=extension.registry.over(built_in_handlers()),
            wire=Wire(secrets),
            secrets=secrets,
            clock=clock or SystemClock(),
            ids=ids or RandomIds(),
            dice=dice or RandomDice(),
            ledger=ledger,
            inbox=inbox,
        )


@asynccontextmanager
async def open_services(parts: Parts) -> AsyncIterator[Services]:
    """The ports' real ends, opened: what runs work with, and what `check` and `explain` ask."""
    settings, extension = parts.settings, parts.extension
    lifespan = extension.lifespan or nullcontext
    async with (
        _open_aws(settings) as aws,
        open_webhook(timeout_s=settings.callback.timeout_s) as webhook,
        lifespan() as resources,
        AsyncExitStack() as stack,
    ):
        terms = Terms(
            lease_s=settings.ledger.lease_s,
            dedupe_window_s=settings.events.dedupe_window_s,
            look_after_s=settings.operations.reconcile_every_s,
            deadline_s=settings.operations.deadline_s,
            max_takeovers=settings.runs.max_takeovers,
            max_attempts=settings.runs.max_attempts,
        )
        stores = _secret_stores(settings, aws)
        credentials = StoredCredentials(stores, parts.clock)
        ledger = parts.ledger
        if ledger is None:
            ledger = _ledger(settings, aws, parts.clock)
        builders = await stack.enter_async_context(
            _open_builders(settings.builders, extension, aws, credentials, parts.clock)
        )
        if settings.builders.dry_run:
            builders = _dry(builders, parts.secrets)
        yield Services(
            books=Books(ledger=ledger, clock=parts.clock, terms=terms),
            tiers=_tiers(settings, extension, aws, parts.clock),
            builders=builders,
            default_builder=settings.builders.default,
            publisher=_publisher(settings, aws),
            structure=parts.wire,
            webhook=webhook,
            notifications=BUILT_IN_NOTIFICATIONS,
            clock=parts.clock,
            callback=CallbackTerms(
                url=settings.callback.url,
                after=Kind(settings.callback.after),
                allowed_hosts=frozenset(settings.callback.allowed_hosts),
                refusals=settings.callback.refusals,
            ),
            secrets=parts.secrets,
            vault=_vault(settings, stores, parts),
            credentials=credentials,
            inbox=_inbox(settings, aws) if parts.inbox is None else parts.inbox,
            resources=resources,
            sbt_source=settings.events.sbt_source,
            dry_run=settings.builders.dry_run,
        )


@attrs.frozen
class Opened:
    """Our own orchestrator, and the one that events go to: ours, or the extension's."""

    own: Orchestrator
    chosen: EventOrchestrator

    @property
    def inbox(self) -> Inbox | None:
        return self.own.services.inbox

    @property
    def checks(self) -> Mapping[str, Check]:
        """What must be reachable, by name."""
        queue = {} if self.inbox is None else {"queue": self.inbox.check}
        return {"ledger": self.own.services.books.ledger.check, **queue}


@asynccontextmanager
async def open_parts(parts: Parts, *, sweeps: bool = True) -> AsyncIterator[Opened]:
    """The orchestrator at work; with `sweeps` it takes up by itself what is due."""
    settings = parts.settings
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(parts))
        if isinstance(services.books.ledger, InMemoryLedger):
            log.warning("the ledger is in memory: what it knows is gone when the process ends")
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
                max_attempts=settings.runs.max_attempts,
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
        yield Opened(own, _chosen_orchestrator(parts.extension, own))


async def sweep_once(settings: Settings) -> int:
    """Take up whatever is due; how many runs and operations that were."""
    async with open_parts(Parts.choose(settings, None), sweeps=False) as opened:
        return (await opened.own.reconcile()).begun


async def make_ends(settings: Settings) -> Mapping[str, bool]:
    """Make the ledger's table, or what is missing of it, and the queue, where the settings name
    them; False: it was there."""
    made = {}
    async with _open_aws(settings) as aws:
        ledger = _ledger(settings, aws, SystemClock())
        if isinstance(ledger, DynamoDBLedger):
            name = f"ledger table {settings.ledger.table}"
            parts = await ledger.create()
            made[name] = "table" in parts
            made |= {f"{part} of the {name}": True for part in parts if part != "table"}
        inbox = _inbox(settings, aws)
        if inbox is not None:
            made[f"queue {settings.intake.queue_url}"] = await inbox.create()
    return made


def _inbox(settings: Settings, aws: AWS) -> SQSInbox | None:
    if settings.intake.queue_url is None:
        return None
    return SQSInbox(
        aws.sqs,
        aws.sqs_polling,
        url=settings.intake.queue_url,
        visibility_s=settings.intake.visibility_s,
    )


def _ledger(settings: Settings, aws: AWS, clock: Clock) -> Ledger:
    if settings.ledger.backend == "memory":
        return InMemoryLedger()
    return DynamoDBLedger(
        aws.dynamodb,
        clock,
        table=settings.ledger.table,
        retention_days=settings.ledger.retention_days,
    )


def _open_aws(settings: Settings) -> AbstractAsyncContextManager[AWS]:
    return open_aws(
        dynamodb_region=settings.aws.dynamodb_region,
        events_region=settings.events.region,
        connect_timeout_s=settings.aws.connect_timeout_s,
        read_timeout_s=settings.aws.read_timeout_s,
    )


def _tiers(settings: Settings, extension: Extension, aws: AWS, clock: Clock) -> TierCatalog:
    given = extension.tiers
    if given is not None:
        return given if hasattr(given, "find_tier") else FunctionTierCatalog(given)
    if settings.tiers.backend == "static":
        return StaticTierCatalog(settings.tiers.static)
    catalog = DynamoDBTierCatalog(aws.dynamodb, table=settings.tiers.table)
    return CachedTierCatalog(catalog, clock, keep_s=settings.tiers.cache_s)


@asynccontextmanager
async def _open_builders(
    settings: Builders,
    extension: Extension,
    aws: AWS,
    credentials: Credentials,
    clock: Clock,
) -> AsyncIterator[Mapping[str, Builder]]:
    listings = BuildListings(aws.codebuild, clock, name=CODE_BUILD)
    builders: dict[str, Builder] = {
        CODE_BUILD: CodeBuildBuilder(aws.codebuild, listings, name=CODE_BUILD)
    }
    if machines := settings.step_functions.state_machines:
        builders[STEP_FUNCTIONS] = StepFunctionsBuilder(
            aws.step_functions, name=STEP_FUNCTIONS, state_machines=machines
        )
    async with AsyncExitStack() as stack:
        jenkins = settings.jenkins
        if jenkins.url is not None:
            builders[JENKINS] = await stack.enter_async_context(
                open_jenkins(
                    url=jenkins.url,
                    user=jenkins.user,
                    token=partial(credentials.resolve, jenkins.token),
                    name=JENKINS,
                    unstable_is_success=jenkins.unstable_is_success,
                    connect_timeout_s=jenkins.connect_timeout_s,
                    timeout_s=jenkins.timeout_s,
                )
            )
        builders |= extension.builders
        if settings.default not in builders:
            raise SettingsError(
                f"The setting builders.default is {settings.default!r}, which is no builder "
                f"here; there is {', '.join(sorted(builders))}."
            )
        yield builders


def _dry(builders: Mapping[str, Builder], secrets: Redactor) -> Mapping[str, Builder]:
    return {
        name: DryRunBuilder(builder, name=name, secrets=secrets)
        for name, builder in builders.items()
    }


def _secret_stores(settings: Settings, aws: AWS) -> Mapping[str, SecretStore]:
    """By the names that settings have for them."""
    prefix = settings.secrets.prefix
    return {
        "secretsmanager": SecretsManagerStore(aws.secrets_manager, prefix=prefix),
        "ssm": ParameterStore(aws.ssm, prefix=prefix),
    }


def _vault(settings: Settings, stores: Mapping[str, SecretStore], parts: Parts) -> Vault:
    chosen = None if settings.builders.dry_run else settings.secrets.store
    return Vault(
        store=stores[chosen] if chosen else None,
        ids=parts.ids,
        secrets=parts.secrets,
        prefix=settings.secrets.prefix,
        others=list(stores.values()),
    )


def _publisher(settings: Settings, aws: AWS) -> Publisher:
    if settings.builders.dry_run:
        return DryRunPublisher()
    if not settings.events.bus:
        return NoPublisher()
    return EventBridgePublisher(aws.events, bus=settings.events.bus, source=settings.events.source)


def _chosen_orchestrator(extension: Extension, default: Orchestrator) -> EventOrchestrator:
    """Ours, or the user's: an object in its place, or what a function or class makes around it."""
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
