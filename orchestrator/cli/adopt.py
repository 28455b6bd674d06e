"""`orchestrator adopt`: writes the tenants of a file into the ledger, with their state and tier.

Each tenant is a transaction of its own, so an aborted import is continued by the same command.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

import attrs

from orchestrator.cli.tenant_file import MAX_ENTRY, Entry, read_entries
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events.json_text import parse_json
from orchestrator.core.events.structure import Structure
from orchestrator.core.ledger.ledger import UnreadableItems
from orchestrator.core.ledger.records import Record, TenantRecord, tenant_key
from orchestrator.core.ledger.tenant_adoption import ExistingTenant, adopt_tenant
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.tasks import gather_or_cancel

#: How many tenants are written, or read, at once.
_BATCH = 100

Show = Callable[[str], None]
#: What the ledger had of a tenant before.
Before = Record | UnreadableItems | None


@attrs.define
class Adoption:
    """The import of a file: its counts, and where its messages go."""

    structure: Structure
    dry_run: bool
    show: Show
    warn: Show
    adopted: int = 0
    known: int = 0
    refused: int = 0

    async def run(self, file: TextIO, transactions: Transactions) -> None:
        """Adopt the tenants of the file. A tenant that the ledger knows, and an entry that is
        refused, get a message each.

        Raises:
            TemporaryError: the ledger can't be reached; tenants adopted by then stay.
        """
        batch: dict[str, tuple[int, ExistingTenant]] = {}
        for entry in read_entries(file):
            tenant = self._read(entry)
            if tenant is None:
                continue
            # The first of two entries for one tenant counts, so they are never handled together.
            if tenant.id in batch or len(batch) == _BATCH:
                await self._handle(batch, transactions)
                batch = {}
            batch[tenant.id] = (entry.line, tenant)
        await self._handle(batch, transactions)

    def summary(self) -> str:
        adopted = "would be adopted" if self.dry_run else "adopted"
        return f"{self.adopted} {adopted}, {self.known} known before, {self.refused} refused"

    def _read(self, entry: Entry) -> ExistingTenant | None:
        try:
            if entry.text is None:
                raise ValueError(f"it has more than {MAX_ENTRY} characters")
            tenant: ExistingTenant = self.structure.structure(_parse(entry.text), ExistingTenant)
        except (ValueError, OrchestratorError) as error:
            self._refuse(entry.line, str(error))
            return None
        return tenant

    def _refuse(self, line: int, reason: str) -> None:
        self.refused += 1
        self.warn(f"line {line}: {reason}")

    async def _handle(
        self, batch: Mapping[str, tuple[int, ExistingTenant]], transactions: Transactions
    ) -> None:
        tenants = [tenant for _, tenant in batch.values()]
        found = await (_look if self.dry_run else _adopt)(tenants, transactions)
        for (line, tenant), before in zip(batch.values(), found, strict=True):
            if isinstance(before, UnreadableItems):
                self._refuse(line, f"{tenant.id}: {before}")
            elif isinstance(before, TenantRecord):
                self.known += 1
                self.show(f"line {line}: {_describe_known(before, tenant)}")
            else:
                self.adopted += 1


def _parse(text: str) -> Any:
    try:
        # Without its line break, behind which the position of an error would be on another line.
        return parse_json(text.rstrip())
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None


async def _adopt(tenants: Iterable[ExistingTenant], transactions: Transactions) -> Sequence[Before]:
    async def adopt(tenant: ExistingTenant) -> Before:
        try:
            return await transactions.run(lambda snapshot: adopt_tenant(snapshot, tenant))
        except UnreadableItems as error:
            return error

    return await gather_or_cancel(map(adopt, tenants))


async def _look(tenants: Iterable[ExistingTenant], transactions: Transactions) -> Sequence[Before]:
    keys = [tenant_key(tenant.id) for tenant in tenants]
    found: dict[str, Before] = {}
    try:
        found |= await transactions.ledger.load(keys) if keys else {}
    except UnreadableItems as error:
        found = {**dict.fromkeys(error.keys, error), **error.found}
    return [found[key] for key in keys]


def _describe_known(known: TenantRecord, wanted: ExistingTenant) -> str:
    sentence = f"{known.tenant_id} is known, as {_describe(known.state_name, known.tier)}"
    if (known.state, known.tier) == (wanted.state, wanted.tier):
        return sentence
    return f"{sentence}; not changed to {_describe(wanted.state, wanted.tier)}"


def _describe(state: str, tier: str | None) -> str:
    return f"{state} with tier {tier}" if tier else f"{state} without a tier"
