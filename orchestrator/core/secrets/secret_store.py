"""A secret store, as a port."""

from typing import Protocol


class SecretStore(Protocol):
    """A store for secrets, which a builder can resolve by reference."""

    @property
    def reference_type(self) -> str:
        """The type of its references: SECRETS_MANAGER or PARAMETER_STORE."""

    async def put(self, *, name: str, value: str) -> None:
        """Store a value under a name, replacing any other.

        Raises:
            PermanentError: the store refuses the name or the value.
            TemporaryError: it is unknown whether it was stored.
        """

    async def read(self, *, name: str) -> str:
        """The stored value. Raises TemporaryError; SecretNotFound if there is none."""

    async def remove(self, *, name: str) -> None:
        """Delete it immediately; no error if it doesn't exist."""
