"""What an adapter can check of its resource: whether it exists, and what IAM must allow."""

from typing import Protocol, runtime_checkable

import attrs


@runtime_checkable
class ReadableBy(Protocol):
    """A store in AWS: the IAM action and resource that reading its references needs."""

    reader_action: str
    resource: str

    def permission(self, name: str) -> "Permission":
        """What reading the one of that name takes."""


@attrs.frozen
class Permission:
    """What an AWS role must be allowed: IAM actions on an ARN, with `*` for what isn't known."""

    actions: tuple[str, ...]
    resource: str


@runtime_checkable
class Checkable(Protocol):
    """An adapter that can check whether its resource exists, without any effect on it."""

    description: str
    permissions: tuple[Permission, ...]

    async def check(self) -> None:
        """Raises TemporaryError or PermanentError with the reason if it isn't."""
