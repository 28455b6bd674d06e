"""The service's own credentials, as a port."""

from typing import Protocol

from orchestrator.core.checkable import Permission


class SecretResolver(Protocol):
    """Resolves the service's own credentials."""

    async def resolve(self, value: str) -> str:
        """A value of the settings, or the secret that it refers to, stripped of white space.

        Raises:
            TemporaryError: it can't be read; SecretBlank: the secret is empty or white space.
        """

    def permission(self, value: str) -> "Permission | None":
        """The permission that the service's role needs to resolve it; None if it isn't a
        reference."""
