"""The web app's keys for the objects that its routes use; `ORCHESTRATOR` and `REGISTRY` are
public."""

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
    """Work that supports graceful shutdown."""

    async def drain(self, *, timeout_s: float) -> None:
        """Accept no new work, wait for the work in progress, hand back what exceeds the timeout."""


ORCHESTRATOR: web.AppKey[EventOrchestrator] = web.AppKey("orchestrator")
REGISTRY: web.AppKey[HandlerRegistry] = web.AppKey("registry", HandlerRegistry)
#: The service's own orchestrator, even if the extension replaces it: only it can replay runs.
OWN_ORCHESTRATOR: web.AppKey[Orchestrator] = web.AppKey("own_orchestrator", Orchestrator)
#: Receives the events of the routes: the orchestrator, or in queue mode the queue's producer.
INTAKE: web.AppKey[EventOrchestrator] = web.AppKey("intake")
#: Replays a run, or in queue mode enqueues the replay; has the arguments of `Orchestrator.replay`.
REPLAY: web.AppKey[Callable[..., Coroutine[Any, Any, Handled]]] = web.AppKey("replay")
TRANSACTIONS: web.AppKey[Transactions] = web.AppKey("transactions", Transactions)
#: The readiness checks of `/readyz`, by name.
CHECKS: web.AppKey[Mapping[str, Check]] = web.AppKey("checks")
#: The headers that may hold an event's id (`events.id_headers`), in order of precedence.
ID_HEADERS: web.AppKey[Sequence[str]] = web.AppKey("id_headers")
MAX_BODY_BYTES: web.AppKey[int] = web.AppKey("max_body_bytes", int)
#: How long (seconds) a body may take to arrive.
RECEIVE_TIMEOUT_S: web.AppKey[float] = web.AppKey("receive_timeout_s", float)
#: Resolves the service's own credentials, such as API keys.
CREDENTIALS: web.AppKey[SecretResolver] = web.AppKey("credentials")
#: Drained before the app is closed.
DRAINS: web.AppKey[Drains] = web.AppKey("drains")
WORKLOAD: web.AppKey[Workload] = web.AppKey("workload", Workload)
WIRE: web.AppKey[JsonConverter] = web.AppKey("wire", JsonConverter)
