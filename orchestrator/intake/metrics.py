"""Prometheus metrics and their route. Each app has its own registry."""

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
from orchestrator.intake.documentation import documented

METRICS = web.AppKey("metrics", CollectorRegistry)

routes = web.RouteTableDef()

#: From a duplicate, which is answered at once, to a handler of ten minutes.
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120, 600)


@attrs.frozen
class QueueMetrics:
    """Metrics of a queue worker."""

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
            handled=counter("messages_handled", "Messages whose event is in the ledger"),
            kept=counter("messages_kept", "Messages left in the queue: not stored, or not events"),
            not_deleted=counter("messages_not_deleted", "Handled messages that failed to delete"),
            failed_polls=counter("failed_polls", "Polls that failed: queue or ledger unreachable"),
            in_hand=Gauge(
                "orchestrator_queue_messages_in_hand",
                "Messages in progress",
                registry=registry,
            ),
            seconds=Histogram(
                "orchestrator_queue_message_seconds",
                "Time to handle a message",
                registry=registry,
                buckets=_SECONDS,
            ),
        )


def build_registry() -> CollectorRegistry:
    """A registry with the metrics of the process: memory, CPU time, open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


@routes.get("/metrics", name="metrics")
@documented("Metrics in the Prometheus format", tag="about", access=OPEN, answers={})
async def get_metrics(request: web.Request) -> web.Response:
    text = generate_latest(request.app[METRICS])
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
