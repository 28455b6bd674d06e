"""The authenticated sender of a request."""

from collections.abc import Iterable
from typing import TypeGuard

import attrs
from aiohttp import web

from orchestrator.intake.access import Scope


@attrs.frozen(kw_only=True)
class Sender:
    """The sender of a request, and their scopes."""

    name: str
    scopes: frozenset[Scope]

    @classmethod
    def of(cls, name: str, scopes: Iterable[str]) -> "Sender":
        """The sender with the scopes that the settings give by their names."""
        return cls(name=name, scopes=frozenset(map(Scope, scopes)))


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
