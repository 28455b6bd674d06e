"""Watches whether an extension's orchestrator passes requests for a sweep on to the service's."""

from typing import Any

import attrs
import structlog

from orchestrator.core.dispatch.orchestrator import EventOrchestrator, Orchestrator
from orchestrator.core.events.event_types import RECONCILE

log = structlog.get_logger("orchestrator.dispatch")


@attrs.define
class WatchedOrchestrator:
    """An extension's orchestrator, `chosen`, in front of the service's `own`.

    Where no timer sweeps, as on Lambda, an orchestrator that keeps RECONCILE to itself stops all
    sweeps: no build's end is seen. Its first one is logged.
    """

    chosen: EventOrchestrator
    own: Orchestrator
    _has_warned: bool = attrs.field(init=False, default=False)

    async def handle_event(self, event_type: str, body: Any) -> object:
        before = self.own.sweeper.requested
        handled = await self.chosen.handle_event(event_type, body)
        is_request = self.own.aliases.get(event_type, event_type) == RECONCILE
        if is_request and self.own.sweeper.requested == before and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the extension's orchestrator swallows sweeps: pass RECONCILE on to the inner one",
                orchestrator=type(self.chosen).__name__,
            )
        return handled
