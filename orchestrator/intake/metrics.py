"""What is counted, as Prometheus reads it. Each app has a registry of its own."""

import attrs
from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from orchestrator.intake.access import OPEN
from orchestrator.intake.openapi import documented

METRICS = web.AppKey("metrics", CollectorRegistry)

routes = web.RouteTableDef()

#: From a duplicate that is found handled at once to a handler of ten minutes.
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120, 600)


@attrs.frozen
class QueueMetrics:
    """What a worker does with the messages of its queue."""

    handled: Counter
    kept: Counter
    not_deleted: Counter
    failed_polls: Counter
    in_hand: Gauge
    seconds: Histogram

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "QueueMetrics":
        def counter(name: str, text: str) -> Counter:
            return Counter(f"orchestrator_queue_{name}", text, registry=registry)

        return cls(
            handled=counter("messages_handled", "Messages whose event the ledger has"),
            kept=counter("messages_kept", "Messages that the ledger could not take, or no event"),
            not_deleted=counter("messages_not_deleted", "Handled ones that could not be deleted"),
            failed_polls=counter("failed_polls", "Polls that a queue or ledger out of reach ended"),
            in_hand=Gauge(
                "orchestrator_queue_messages_in_hand",
                "Messages that are being handled",
                registry=registry,
            ),
            seconds=Histogram(
                "orchestrator_queue_message_seconds",
                "How long it took to handle a message",
                registry=registry,
                buckets=_SECONDS,
            ),
        )


def build_registry() -> CollectorRegistry:
    """A registry that knows the process: memory, processor time, open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


@routes.get("/metrics", name="metrics")
@documented("Metrics, as Prometheus reads them", tag="about", access=OPEN, answers={})
async def get_metrics(request: web.Request) -> web.Response:
    text = generate_latest(request.app[METRICS])
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
