"""Checks of an adapter's resource: whether it exists, and the IAM permissions that it needs."""

from typing import Protocol, runtime_checkable

import attrs


@runtime_checkable
class ReadableBy(Protocol):
    """A store in AWS: the IAM action and resource that reading its references needs."""

    reader_action: str
    resource: str

    def permission(self, name: str) -> "Permission":
        """The permission to read the secret of that name."""


@attrs.frozen
class Permission:
    """A permission of an AWS role: IAM actions on an ARN, with `*` for unknown parts."""

    actions: tuple[str, ...]
    resource: str


@runtime_checkable
class Checkable(Protocol):
    """An adapter that can check whether its resource exists, without any effect on it."""

    description: str
    permissions: tuple[Permission, ...]

    async def check(self) -> None:
        """Raises TemporaryError or PermanentError with the reason if it doesn't exist."""
