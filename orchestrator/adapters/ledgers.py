"""Chooses the ledger that the settings name."""

from orchestrator.adapters.aws import AWS
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.clock import Clock
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.settings import LedgerSettings


def choose_ledger(settings: LedgerSettings, aws: AWS, clock: Clock) -> Ledger:
    if settings.backend == "memory":
        return InMemoryLedger()
    return DynamoDBLedger(
        aws.dynamodb, clock, table=settings.table, retention_days=settings.retention_days
    )
