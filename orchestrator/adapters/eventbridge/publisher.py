"""Publishes the service's events on an EventBridge bus."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from orchestrator.adapters.aws import AWS, aws_errors
from orchestrator.adapters.dry_run import DryRunPublisher
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.events.publisher import Publisher
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_events import EventBridgeClient

_TRIES = 2
#: Error codes of an entry that is refused for its content (API reference, PutEventsResultEntry).
_REFUSED_FOR_GOOD = frozenset({"MalformedDetail", "InvalidArgument"})


class EventBridgePublisher:
    why_silent: str | None = None

    def __init__(
        self, client: Callable[[], Awaitable["EventBridgeClient"]], *, bus: str, source: str
    ) -> None:
        """`client` returns the app's open client."""
        self._client = client
        self._bus = bus
        self._source = source
        self.description = f"the EventBridge bus {bus}"
        self.permissions = (
            Permission(
                ("events:PutEvents", "events:DescribeEventBus"),
                f"arn:aws:events:*:*:event-bus/{bus}",
            ),
        )

    async def check(self) -> None:
        client = await self._client()
        with aws_errors("EventBridge DescribeEventBus"):
            await client.describe_event_bus(Name=self._bus)

    async def publish(
        self, *, event_type: str, detail: Mapping[str, Any], source: str | None = None
    ) -> str:
        """Publish one event; returns its id on the bus.

        PutEvents answers 200 even if it accepted nothing: the entry's error code counts. A failed
        entry is sent once more; further retries are left to the run's next attempt.

        Raises:
            PermanentError: EventBridge refuses the event, or `event_type` or `source` is no text.
            TemporaryError: it can't be published now.
        """
        for what, text in (("event type", event_type), ("source", source or self._source)):
            if not isinstance(cast("object", text), str):
                raise PermanentError(f"The {what} is {text!r}: it must be text.")
        client = await self._client()
        code = message = None
        for _ in range(_TRIES):
            with aws_errors("EventBridge PutEvents"):
                answer = await client.put_events(
                    Entries=[
                        {
                            "Source": source or self._source,
                            "DetailType": event_type,
                            "Detail": json.dumps(detail, ensure_ascii=False),
                            "EventBusName": self._bus,
                        }
                    ]
                )
                (entry,) = answer["Entries"]
                if not answer["FailedEntryCount"]:
                    return entry["EventId"]
                code, message = entry.get("ErrorCode"), entry.get("ErrorMessage")
            if code in _REFUSED_FOR_GOOD:
                raise PermanentError(f"EventBridge refused {event_type}: {code}: {message}")
        raise TemporaryError(f"EventBridge did not take {event_type}: {code}: {message}")


class NoPublisher:
    """Used if no bus is configured: publishing raises TemporaryError until there is one."""

    why_silent: str | None = "the setting events.bus is empty"
    description = "none: the setting is empty, so nothing is published"
    permissions: tuple[Permission, ...] = ()

    async def check(self) -> None:
        """Always passes: there is no bus."""

    async def publish(
        self,
        *,
        event_type: str,
        detail: Mapping[str, Any],  # noqa: ARG002
        source: str | None = None,  # noqa: ARG002
    ) -> str:
        raise TemporaryError(f"{event_type} can't be published: {self.why_silent}.")


def open_publisher(settings: Settings, aws: AWS, given: Publisher | None = None) -> Publisher:
    """The given publisher, or one for the configured bus; without a bus, or in a dry run, one that
    doesn't publish."""
    if settings.builders.dry_run:
        return DryRunPublisher()
    if given is not None:
        return given
    if not settings.events.bus:
        return NoPublisher()
    return EventBridgePublisher(aws.events, bus=settings.events.bus, source=settings.events.source)
