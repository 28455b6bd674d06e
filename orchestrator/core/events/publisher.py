"""The bus of the control plane, as a port."""

from collections.abc import Mapping
from typing import Any, Protocol


class Publisher(Protocol):
    #: Why events are not published, such as "the setting events.bus is empty"; None if they are.
    why_silent: str | None

    async def publish(
        self, *, event_type: str, detail: Mapping[str, Any], source: str | None = None
    ) -> str:
        """Publish one event for the control plane and other subscribers; returns its id.

        `source` None uses the service's own source.
        """
