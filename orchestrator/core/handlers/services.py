"""The services of all runs of an orchestrator: ports, and settings of them."""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.core.callback.report import CallbackPolicy
from orchestrator.core.callback.webhook import Webhook
from orchestrator.core.clock import Clock
from orchestrator.core.events.publisher import Publisher
from orchestrator.core.events.structure import Structure
from orchestrator.core.events.toolkit import APPLICATION_PLANE
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.notifications import Notifications
from orchestrator.core.jobs.tier_catalog import TierCatalog
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.metrics import NO_METRICS, Metrics
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import SecretReferences, SecretRemover
from orchestrator.core.tracing import NO_TRACING, Tracing


@attrs.frozen(kw_only=True)
class Services:
    """The ports and settings that all runs of an orchestrator share."""

    transactions: Transactions
    tiers: TierCatalog
    builders: Mapping[str, Builder]
    default_builder: str
    publisher: Publisher
    structure: Structure
    webhook: Webhook
    notifications: Notifications
    clock: Clock
    metrics: Metrics = NO_METRICS
    tracing: Tracing = NO_TRACING
    callback: CallbackPolicy = attrs.field(factory=CallbackPolicy)
    secrets: Redactor = attrs.field(factory=Redactor)
    #: None: secrets are passed to jobs in plain text.
    secret_references: SecretReferences | None = None
    secret_remover: SecretRemover = attrs.field(factory=SecretRemover)
    #: Events must not refer to secrets below it.
    secret_prefix: str = ""
    resources: Any = None
    #: The source of results for the control plane of the SaaS Builder Toolkit.
    sbt_source: str = APPLICATION_PLANE
    #: A dry run: nothing is started, published or reported.
    dry_run: bool = False
