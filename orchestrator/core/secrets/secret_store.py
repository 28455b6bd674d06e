"""A secret store, as a port."""

from typing import Protocol


class SecretStore(Protocol):
    """A place for secrets, from which a builder can have them by reference."""

    @property
    def reference_type(self) -> str:
        """What such a reference is: SECRETS_MANAGER or PARAMETER_STORE."""

    async def put(self, *, name: str, value: str) -> None:
        """Keep it, in place of what was kept under that name.

        Raises:
            PermanentError: it takes no such name or value.
            TemporaryError: it is not known whether it was taken.
        """

    async def read(self, *, name: str) -> str:
        """What is kept. Raises TemporaryError, of which SecretNotFound is one."""

    async def remove(self, *, name: str) -> None:
        """Have it gone at once; that it isn't there is no error."""
