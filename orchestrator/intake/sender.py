"""The authenticated sender of a request."""

from collections.abc import Iterable
from typing import TypeGuard

import attrs
from aiohttp import web

from orchestrator.settings.auth import Scope


@attrs.frozen(kw_only=True)
class Sender:
    """The sender of a request, and their scopes."""

    name: str
    scopes: frozenset[Scope]

    @classmethod
    def of(cls, name: str, scopes: Iterable[Scope]) -> "Sender":
        """The sender with the scopes of the settings."""
        return cls(name=name, scopes=frozenset(scopes))


def is_name(claimed: object) -> TypeGuard[str]:
    """Whether a claim may name a sender: it is shown in logs and answers, and kept with replays and
    cancels."""
    return isinstance(claimed, str) and bool(claimed.strip()) and claimed.isprintable()


#: The authenticated sender of a request; an open service's requests have none.
SENDER: web.RequestKey[Sender] = web.RequestKey("sender", Sender)


def name_of_sender(request: web.Request) -> str | None:
    """The name of the authenticated sender; None on an open service."""
    sender = request.get(SENDER)
    return sender.name if sender else None
