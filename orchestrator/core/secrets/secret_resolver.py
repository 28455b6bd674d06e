"""The service's own credentials, as a port."""

from typing import Protocol

from orchestrator.core.checkable import Permission


class SecretResolver(Protocol):
    """The service's own credentials."""

    async def resolve(self, value: str) -> str:
        """A value of the settings, or what is kept where it refers to, without white space around.

        Raises:
            TemporaryError: it can't be read; SecretBlank: nothing is kept there but white space.
        """

    def permission(self, value: str) -> "Permission | None":
        """What the service's role needs to resolve it; None: it is no reference."""
