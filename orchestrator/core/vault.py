"""Secret variables of jobs: kept in a store while their start needs them, passed as references.

start ──► note their names ──► store them ──► the builder is given references
sweep ──► is the start over, and reported? ──► remove them ──► forget their names
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import structlog

from orchestrator.core.books import Attempt, Books
from orchestrator.core.errors import OrchestratorError, TemporaryError
from orchestrator.core.gathering import gather_or_cancel
from orchestrator.core.javascript import to_text
from orchestrator.core.keeping import begin_removal, end_removal
from orchestrator.core.ports import SecretStore
from orchestrator.core.secrets import Redactor
from orchestrator.core.variables import START_KEY, TRACEPARENT, is_reference

log = structlog.get_logger("orchestrator.vault")

#: How a job is told from others must stay readable, whatever a pattern takes for a secret.
_NEVER_SEALED = frozenset({START_KEY, TRACEPARENT})


@attrs.frozen(kw_only=True)
class Vault:
    """Keeps in `store` what `secrets` takes for a secret; names begin with `prefix`.

    `store` None keeps nothing. `others` are stores of which the settings may have named one
    before, so that what was kept there is removed from there.
    """

    store: SecretStore | None = None
    secrets: Redactor = attrs.field(factory=Redactor)
    prefix: str = ""
    others: Sequence[SecretStore] = ()

    async def seal(self, attempt: Attempt, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables with references in place of secrets, which are stored by now.

        Raises:
            PermanentError: the store doesn't take a value.
            TemporaryError: ledger or store can't be reached, or the run is in other hands.
        """
        if self.store is None:
            return variables
        hidden = {
            name: to_text(value)
            for name, value in variables.items()
            if value and name not in _NEVER_SEALED and self._must_be_kept(name, value)
        }
        if not hidden:
            return variables
        kind = self.store.reference_type
        names = await attempt.note_secrets(kind, self.prefix, sorted(hidden))
        # None goes on by itself if another fails: it might come after its own removal.
        await gather_or_cancel(
            self.store.put(name=names[name], value=value) for name, value in hidden.items()
        )
        return {**variables, **{name: {"type": kind, "value": names[name]} for name in hidden}}

    async def clear(self, books: Books, start_key: str) -> None:
        """Remove a start's secrets if it needs them no more. What can't be removed stays due."""
        try:
            removing = await books.decide(lambda view: begin_removal(view, start_key, books.terms))
            if removing is None:
                return
            store = self._find_store(removing.kind)
            await asyncio.gather(*(store.remove(name=name) for name in removing.names))
            await books.decide(lambda view: end_removal(view, removing))
        except OrchestratorError as error:
            log.warning("secrets not removed yet", start_key=start_key, reason=str(error))
        else:
            log.info("secrets removed", start_key=start_key)

    def _must_be_kept(self, name: str, value: object) -> bool:
        return not is_reference(value) and self.secrets.hides(name, value)

    def _find_store(self, kind: str) -> SecretStore:
        stores = [*self.others, *([] if self.store is None else [self.store])]
        for store in stores:
            if store.reference_type == kind:
                return store
        raise TemporaryError(
            f"There is no {kind} here any more: remove what is kept there by hand."
        )
