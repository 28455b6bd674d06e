"""The composition root: chooses and opens the adapters for the settings and the extension.

Each adapter is opened by its own module; nothing is wired at import time.
"""

from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)

import attrs

from orchestrator.adapters.aws import AWS, open_aws
from orchestrator.adapters.builders import open_builders
from orchestrator.adapters.eventbridge.publisher import open_publisher
from orchestrator.adapters.ledgers import choose_ledger
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.adapters.secret_resolver import StoredSecretResolver
from orchestrator.adapters.secret_stores import open_secret_stores, refer_to_secrets
from orchestrator.adapters.sqs.inbox import open_inbox
from orchestrator.adapters.tier_catalog import open_tiers
from orchestrator.adapters.tracing import traced_aws, traced_sessions
from orchestrator.adapters.webhook import open_webhook
from orchestrator.core.callback.report import CallbackPolicy
from orchestrator.core.clock import Clock, Ids
from orchestrator.core.events.event_types import Kind
from orchestrator.core.events.publisher import Publisher
from orchestrator.core.events.structure import Structure
from orchestrator.core.handlers.extension import Extension
from orchestrator.core.handlers.services import Services
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.metrics import NO_METRICS, Metrics
from orchestrator.core.queue.inbox import Inbox
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import SecretRemover
from orchestrator.core.secrets.secret_resolver import SecretResolver
from orchestrator.core.tracing import NO_TRACING, Tracing
from orchestrator.core.urls import parse_origin
from orchestrator.settings import Settings


@attrs.frozen(kw_only=True)
class Ports:
    """The opened adapters: the services of runs, and what only the entry points need."""

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
    publisher: Publisher | None = None,
    metrics: Metrics = NO_METRICS,
    tracing: Tracing = NO_TRACING,
) -> AsyncIterator[Ports]:
    """Open the adapters for the life of the context; given ones replace the configured ones."""
    lifespan = extension.lifespan or nullcontext
    async with (
        traced_aws(tracing),
        open_configured_aws(settings, metrics, tracing) as aws,
        open_webhook(
            timeout_s=settings.callback.timeout_s, trace_configs=traced_sessions(tracing)
        ) as webhook,
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
        stores = open_secret_stores(settings.secrets, aws)
        credentials = StoredSecretResolver(stores, clock)
        ledger = choose_ledger(settings.ledger, aws, clock) if ledger is None else ledger
        builders = await stack.enter_async_context(
            open_builders(
                settings.builders, extension.builders, aws, credentials, clock, secrets, tracing
            )
        )
        services = Services(
            transactions=Transactions(ledger=ledger, clock=clock, timings=timings, metrics=metrics),
            tiers=open_tiers(settings.tiers, extension.tiers, aws, clock, metrics),
            builders=builders,
            default_builder=settings.builders.default,
            publisher=open_publisher(settings, aws, publisher),
            structure=structure,
            webhook=webhook,
            notifications=BUILT_IN_NOTIFICATIONS,
            clock=clock,
            metrics=metrics,
            tracing=tracing,
            callback=CallbackPolicy(
                url=settings.callback.url,
                after=Kind(settings.callback.after),
                allowed_origins=frozenset(map(parse_origin, settings.callback.allowed_hosts)),
                refusals=settings.callback.refusals,
            ),
            secrets=secrets,
            secret_references=None
            if settings.builders.dry_run
            else refer_to_secrets(settings.secrets, stores, secrets, ids),
            secret_remover=SecretRemover(list(stores.values())),
            secret_prefix=settings.secrets.prefix,
            resources=resources,
            sbt_source=settings.events.sbt_source,
            dry_run=settings.builders.dry_run,
        )
        yield Ports(
            services=services,
            credentials=credentials,
            inbox=open_inbox(settings.intake, aws) if inbox is None else inbox,
        )


def open_configured_aws(
    settings: Settings, metrics: Metrics = NO_METRICS, tracing: Tracing = NO_TRACING
) -> AbstractAsyncContextManager[AWS]:
    return open_aws(
        dynamodb_region=settings.aws.dynamodb_region,
        events_region=settings.events.region,
        connect_timeout_s=settings.aws.connect_timeout_s,
        read_timeout_s=settings.aws.read_timeout_s,
        transport=settings.aws.transport,
        metrics=metrics,
        tracing=tracing,
    )
