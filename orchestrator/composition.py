"""The composition root: which adapters the settings and the extension come to, opened.

The only module that names concrete classes; nothing is wired at import time.
"""

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
from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.builds import CODE_BUILD
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.adapters.dry_run import DryRunBuilder, DryRunPublisher
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.adapters.dynamodb.tier_catalog import DynamoDBTierCatalog
from orchestrator.adapters.eventbridge.publisher import EventBridgePublisher, NoPublisher
from orchestrator.adapters.jenkins.builder import open_jenkins
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.adapters.parameter_store.secret_store import ParameterStore
from orchestrator.adapters.secret_resolver import StoredSecretResolver
from orchestrator.adapters.secrets_manager.secret_store import SecretsManagerStore
from orchestrator.adapters.sqs.inbox import SQSInbox
from orchestrator.adapters.step_functions.builder import StepFunctionsBuilder
from orchestrator.adapters.step_functions.executions import STEP_FUNCTIONS
from orchestrator.adapters.tier_cache import CachedTierCatalog
from orchestrator.adapters.tier_catalog import FunctionTierCatalog, StaticTierCatalog
from orchestrator.adapters.webhook import open_webhook
from orchestrator.core.callback.report import CallbackPolicy
from orchestrator.core.clock import Clock, Ids
from orchestrator.core.events.event_types import Kind
from orchestrator.core.events.publisher import Publisher
from orchestrator.core.events.structure import Structure
from orchestrator.core.handlers.extension import Extension
from orchestrator.core.handlers.services import Services
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.tier_catalog import TierCatalog
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.queue.inbox import Inbox
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import SecretReferences
from orchestrator.core.secrets.secret_resolver import SecretResolver
from orchestrator.core.secrets.secret_store import SecretStore
from orchestrator.settings import Builders, Settings, SettingsError

#: The name under which Jenkins is registered as a builder.
JENKINS = "JENKINS"

log = structlog.get_logger("orchestrator.composition")


@attrs.frozen(kw_only=True)
class Ports:
    """The ports' real ends: what runs work with, and what only the ways in need."""

    services: Services
    credentials: SecretResolver
    inbox: Inbox | None


@asynccontextmanager
async def open_ports(
    settings: Settings,
    extension: Extension,
    *,
    structure: Structure,
    secrets: Redactor,
    clock: Clock,
    ids: Ids,
    ledger: Ledger | None = None,
    inbox: Inbox | None = None,
) -> AsyncIterator[Ports]:
    """The ports' ends, opened for the life of the context. One that is left out is the real one."""
    lifespan = extension.lifespan or nullcontext
    async with (
        open_configured_aws(settings) as aws,
        open_webhook(timeout_s=settings.callback.timeout_s) as webhook,
        lifespan() as resources,
        AsyncExitStack() as stack,
    ):
        timings = Timings(
            lease_s=settings.ledger.lease_s,
            dedupe_window_s=settings.events.dedupe_window_s,
            look_after_s=settings.operations.reconcile_every_s,
            deadline_s=settings.operations.deadline_s,
            max_takeovers=settings.runs.max_takeovers,
            max_attempts=settings.runs.max_attempts,
        )
        stores = _secret_stores(settings, aws)
        credentials = StoredSecretResolver(stores, clock)
        ledger = choose_ledger(settings, aws, clock) if ledger is None else ledger
        builders = await stack.enter_async_context(
            _open_builders(settings.builders, extension, aws, credentials, clock)
        )
        if settings.builders.dry_run:
            builders = _dry(builders, secrets)
        services = Services(
            transactions=Transactions(
                ledger=ledger or choose_ledger(settings, aws, clock), clock=clock, timings=timings
            ),
            tiers=_tiers(settings, extension, aws, clock),
            builders=builders,
            default_builder=settings.builders.default,
            publisher=_publisher(settings, aws),
            structure=structure,
            webhook=webhook,
            notifications=BUILT_IN_NOTIFICATIONS,
            clock=clock,
            callback=CallbackPolicy(
                url=settings.callback.url,
                after=Kind(settings.callback.after),
                allowed_hosts=frozenset(settings.callback.allowed_hosts),
                refusals=settings.callback.refusals,
            ),
            secrets=secrets,
            secret_references=_vault(settings, stores, secrets, ids),
            resources=resources,
            sbt_source=settings.events.sbt_source,
            dry_run=settings.builders.dry_run,
        )
        yield Ports(
            services=services,
            credentials=credentials,
            inbox=choose_inbox(settings, aws) if inbox is None else inbox,
        )


def choose_inbox(settings: Settings, aws: AWS) -> SQSInbox | None:
    if settings.intake.queue_url is None:
        return None
    return SQSInbox(
        aws.sqs,
        aws.sqs_polling,
        url=settings.intake.queue_url,
        visibility_s=settings.intake.visibility_s,
    )


def choose_ledger(settings: Settings, aws: AWS, clock: Clock) -> Ledger:
    if settings.ledger.backend == "memory":
        return InMemoryLedger()
    return DynamoDBLedger(
        aws.dynamodb,
        clock,
        table=settings.ledger.table,
        retention_days=settings.ledger.retention_days,
    )


def open_configured_aws(settings: Settings) -> AbstractAsyncContextManager[AWS]:
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
    credentials: SecretResolver,
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


def _vault(
    settings: Settings, stores: Mapping[str, SecretStore], secrets: Redactor, ids: Ids
) -> SecretReferences:
    chosen = None if settings.builders.dry_run else settings.secrets.store
    return SecretReferences(
        store=stores[chosen] if chosen else None,
        ids=ids,
        secrets=secrets,
        prefix=settings.secrets.prefix,
        others=list(stores.values()),
    )


def _publisher(settings: Settings, aws: AWS) -> Publisher:
    if settings.builders.dry_run:
        return DryRunPublisher()
    if not settings.events.bus:
        return NoPublisher()
    return EventBridgePublisher(aws.events, bus=settings.events.bus, source=settings.events.source)
