"""Where the web app keeps what its routes work with; `ORCHESTRATOR` and `REGISTRY` are public."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from orchestrator.core.dispatch.orchestrator import EventOrchestrator, Handled, Orchestrator
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.secrets.secret_resolver import SecretResolver
from orchestrator.intake.workload import Workload
from orchestrator.wire.converter import JsonConverter

Check = Callable[[], Awaitable[None]]


class Drains(Protocol):
    """Work that can be brought to an end."""

    async def drain(self, *, timeout_s: float) -> None:
        """Take no new work, let what is in hand finish, hand back what has not by then."""


ORCHESTRATOR: web.AppKey[EventOrchestrator] = web.AppKey("orchestrator")
REGISTRY: web.AppKey[HandlerRegistry] = web.AppKey("registry", HandlerRegistry)
#: Ours, whatever the extension has put in its place: it alone can replay what is kept.
OWN_ORCHESTRATOR: web.AppKey[Orchestrator] = web.AppKey("own_orchestrator", Orchestrator)
#: What the events of the routes go to: the orchestrator, or in queue mode what fills the queue.
INTAKE: web.AppKey[EventOrchestrator] = web.AppKey("intake")
#: Runs a kept run again, or has that done; with the arguments of `Orchestrator.replay`.
REPLAY: web.AppKey[Callable[..., Coroutine[Any, Any, Handled]]] = web.AppKey("replay")
TRANSACTIONS: web.AppKey[Transactions] = web.AppKey("transactions", Transactions)
#: What must be reachable for `/readyz` to say yes, by name.
CHECKS: web.AppKey[Mapping[str, Check]] = web.AppKey("checks")
#: The headers that name an event (`events.id_headers`), the first of them first.
ID_HEADERS: web.AppKey[Sequence[str]] = web.AppKey("id_headers")
MAX_BODY_BYTES: web.AppKey[int] = web.AppKey("max_body_bytes", int)
#: Resolves the service's own credentials, API keys among them.
CREDENTIALS: web.AppKey[SecretResolver] = web.AppKey("credentials")
#: What is asked to end in good order before the app is closed.
DRAINS: web.AppKey[Drains] = web.AppKey("drains")
WORKLOAD: web.AppKey[Workload] = web.AppKey("workload", Workload)
WIRE: web.AppKey[JsonConverter] = web.AppKey("wire", JsonConverter)
