"""Where the web app keeps what its routes work with; `ORCHESTRATOR` and `REGISTRY` are public."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from orchestrator.core.books import Books
from orchestrator.core.dispatch import EventOrchestrator, Orchestrator
from orchestrator.core.registry import HandlerRegistry
from orchestrator.intake.workload import Workload
from orchestrator.wire import Wire

Check = Callable[[], Awaitable[None]]

ORCHESTRATOR: web.AppKey[EventOrchestrator] = web.AppKey("orchestrator")
REGISTRY: web.AppKey[HandlerRegistry] = web.AppKey("registry", HandlerRegistry)
#: Ours, whatever the extension has put in its place: it alone can replay what is kept.
OWN_ORCHESTRATOR: web.AppKey[Orchestrator] = web.AppKey("own_orchestrator", Orchestrator)
BOOKS: web.AppKey[Books] = web.AppKey("books", Books)
#: What must be reachable for `/readyz` to say yes, by name.
CHECKS: web.AppKey[Mapping[str, Check]] = web.AppKey("checks")
MAX_BODY_BYTES: web.AppKey[int] = web.AppKey("max_body_bytes", int)
#: The OpenAPI security schemes of the methods that are asked for, by name; empty: open.
SECURITY: web.AppKey[Mapping[str, Any]] = web.AppKey("security")
WORKLOAD: web.AppKey[Workload] = web.AppKey("workload", Workload)
WIRE: web.AppKey[Wire] = web.AppKey("wire", Wire)
