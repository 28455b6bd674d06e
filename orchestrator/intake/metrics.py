"""The route of the metrics in Prometheus' text format."""

from typing import Protocol, runtime_checkable

from aiohttp import web

from orchestrator.intake.access import Access
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.problems import REFUSED


@runtime_checkable
class Exposition(Protocol):
    """Metrics that can be read."""

    content_type: str

    def as_text(self) -> bytes:
        """All metrics in the format of the content type."""


METRICS: web.AppKey[Exposition] = web.AppKey("metrics")

routes = web.RouteTableDef()


@routes.get("/metrics", name="metrics")
@documented(
    "Get the metrics, in the Prometheus format",
    description=(
        "Counters, gauges and histograms of events, operations, jobs, reports, AWS requests, "
        "sweeps and the queue, of all processes of this service."
    ),
    tag="about",
    access=Access("metrics:read"),
    answers={
        200: Answer(
            "The metrics",
            str,
            media_type="text/plain",
            example='orchestrator_operations_open{kind="provisioning"} 3.0',
        ),
        401: REFUSED,
    },
)
async def get_metrics(request: web.Request) -> web.Response:
    metrics = request.app[METRICS]
    return web.Response(body=metrics.as_text(), headers={"Content-Type": metrics.content_type})
