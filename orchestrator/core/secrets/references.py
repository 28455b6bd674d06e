"""Secret variables of jobs: stored while their start needs them, passed as references.

start ──► reserve their names ──► store them ──► the builder gets references
sweep ──► is the start over, and reported? ──► remove them ──► delete their names
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
import structlog

from orchestrator.core.clock import Ids
from orchestrator.core.errors import (
    NotPermitted,
    OrchestratorError,
    SecretNotFound,
    TemporaryError,
)
from orchestrator.core.events.javascript import to_text
from orchestrator.core.identifiers import START_KEY, TRACEPARENT
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.secrets import secret_names
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.secret_names import OtherStore, begin_removal, end_removal
from orchestrator.core.secrets.secret_store import SecretStore
from orchestrator.core.tasks import gather_or_cancel

#: Variables that identify a job stay readable, even if a pattern matches them.
_NEVER_SEALED = frozenset({START_KEY, TRACEPARENT})

log = structlog.get_logger("orchestrator.references")


async def reserve_secret_names(
    lease: RunLease, kind: str, prefix: str, random: str, variables: Sequence[str]
) -> Mapping[str, str]:
    """Reserve the names under which a store of that kind keeps the start's variables.

    A new name begins with `prefix` and contains `random`.

    Raises:
        TemporaryError: a store of another kind still has some; the ledger can't be reached.
    """
    names: Mapping[str, str] | OtherStore = await lease.write(
        lambda snapshot: secret_names.reserve_names(
            snapshot, *lease.fence, kind, prefix, random, variables
        )
    )
    if isinstance(names, OtherStore):
        raise TemporaryError(
            f"Secrets of this start are in the {names.kind}: set secrets.store back until the "
            "start is over."
        )
    return names


@attrs.frozen(kw_only=True)
class SecretReferences:
    """Stores in `store` what `secrets` recognizes as a secret. Names begin with `prefix` and have
    an id of `ids`, since any sender of events could refer to a name that can be guessed."""

    store: SecretStore
    ids: Ids
    secrets: Redactor = attrs.field(factory=Redactor)
    prefix: str = ""

    async def replace_secrets(
        self, lease: RunLease, variables: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Store the secrets among the variables; returns the variables with references to them.

        Raises:
            PermanentError: the store refuses a value.
            TemporaryError: ledger or store can't be reached, or another attempt has taken the run
                over.
        """
        hidden = {
            name: to_text(value)
            for name, value in variables.items()
            if value and name not in _NEVER_SEALED and self._must_be_kept(name, value)
        }
        if not hidden:
            return variables
        kind = self.store.reference_type
        names = await reserve_secret_names(
            lease, kind, self.prefix, self.ids.fresh_id(), sorted(hidden)
        )
        keep = self.store.put if lease.run.attempt == 1 else self._put_unless_kept
        # All are cancelled if one fails: a late write might come after the secret's removal.
        await gather_or_cancel(
            keep(name=names[name], value=value) for name, value in hidden.items()
        )
        return {**variables, **{name: {"type": kind, "value": names[name]} for name in hidden}}

    async def _put_unless_kept(self, *, name: str, value: str) -> None:
        """Store a value unless an earlier attempt has: a store accepts few writes a second, and
        keeps each as a version."""
        with suppress(SecretNotFound, NotPermitted):
            if await self.store.read(name=name) == value:
                return
        await self.store.put(name=name, value=value)

    def _must_be_kept(self, name: str, value: object) -> bool:
        return not is_reference(value) and self.secrets.hides(name, value)


@attrs.frozen
class SecretRemover:
    """Removes secrets from `stores`: all that the settings can name, since a secret may have been
    stored under an earlier setting."""

    stores: Sequence[SecretStore] = ()

    async def remove(self, transactions: Transactions, start_key: str) -> None:
        """Remove a start's secrets if they are no longer needed; if that fails they stay due."""
        try:
            removing = await transactions.run(
                lambda snapshot: begin_removal(snapshot, start_key, transactions.timings)
            )
            if removing is None:
                return
            store = self._find_store(removing.kind)
            await asyncio.gather(*(store.remove(name=name) for name in removing.names))
            await transactions.run(lambda snapshot: end_removal(snapshot, removing))
        except OrchestratorError as error:
            log.warning("secrets not removed yet", start_key=start_key, reason=str(error))
        else:
            log.info("secrets removed", start_key=start_key)

    def _find_store(self, kind: str) -> SecretStore:
        for store in self.stores:
            if store.reference_type == kind:
                return store
        raise TemporaryError(f"There is no {kind} here any more: remove its secrets by hand.")


def is_reference(value: Any) -> bool:
    """Whether a builder resolves the value itself: exactly
    `{"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value"}`."""
    match value:
        case {"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value": str()}:
            return bool(len(value) == 2)
    return False
