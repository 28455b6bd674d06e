"""Secret variables of jobs: kept in a store while their start needs them, passed as references.

start ──► note their names ──► store them ──► the builder is given references
sweep ──► is the start over, and reported? ──► remove them ──► forget their names
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs
import structlog

from orchestrator.core.books import Attempt, Books
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.javascript import to_text
from orchestrator.core.keeping import begin_removal, end_removal
from orchestrator.core.ports import SecretStore
from orchestrator.core.secrets import Redactor

log = structlog.get_logger("orchestrator.vault")


@attrs.frozen(kw_only=True)
class Vault:
    """Keeps in `store` what `secrets` takes for a secret; names begin with `prefix`."""

    store: SecretStore
    secrets: Redactor
    prefix: str

    async def seal(self, attempt: Attempt, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables with references in place of secrets, which are stored by now.

        Raises:
            PermanentError: the store doesn't take a value.
            TemporaryError: ledger or store can't be reached, or the run is in other hands.
        """
        hidden = {
            name: to_text(value)
            for name, value in variables.items()
            if value and not _is_reference(value) and self.secrets.hides(name, value)
        }
        if not hidden:
            return variables
        names = await attempt.note_secrets(self.prefix, sorted(hidden))
        await asyncio.gather(
            *(self.store.put(name=names[name], value=value) for name, value in hidden.items())
        )
        kind = self.store.reference_type
        return {**variables, **{name: {"type": kind, "value": names[name]} for name in hidden}}

    async def clear(self, books: Books, start_key: str) -> None:
        """Remove a start's secrets if it needs them no more. What can't be removed stays due."""
        try:
            removing = await books.decide(lambda view: begin_removal(view, start_key, books.terms))
            if removing is None:
                return
            await asyncio.gather(*(self.store.remove(name=name) for name in removing.names))
            await books.decide(lambda view: end_removal(view, removing))
        except OrchestratorError as error:
            log.warning("secrets not removed yet", start_key=start_key, reason=str(error))
        else:
            log.info("secrets removed", start_key=start_key)


def _is_reference(value: object) -> bool:
    """What a builder resolves by itself, such as a secret that the control plane keeps."""
    match value:
        case {"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value": str()}:
            return True
    return False
