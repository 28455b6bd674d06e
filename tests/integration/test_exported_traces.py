"""Traces of real processes, exported to a collector as OpenTelemetry's own variables say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import attrs
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from orchestrator.embedded import EmbeddedAWS
from orchestrator.testing import envelope
from tests.integration.commands import PATIENCE_S
from tests.integration.test_service_workers import open_workers

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@attrs.define
class Collector:
    """Receives spans over OTLP (HTTP, protobuf)."""

    url: str = ""
    services: set[str] = attrs.field(factory=set)
    spans: list[Span] = attrs.field(factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        exported = ExportTraceServiceRequest.FromString(await request.read())
        for resource in exported.resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(named["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()


async def test_workers_export_their_spans(aws: EmbeddedAWS) -> None:
    """Forked workers export their spans too, and those that are left when the service ends."""
    async with (
        open_collector() as collector,
        open_workers(
            ORCHESTRATOR_TELEMETRY__TRACES="true", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
        ) as workers,
    ):
        await workers.listening(2)
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as http,
            http.post(
                f"{workers.url}/events",
                json=envelope("ORDER", {}),
                headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"},
            ) as answer,
        ):
            assert answer.status == 400
        workers.process.terminate()
        assert await workers.wait() == 0
    assert collector.services == {"saas-orchestrator"}
    names = {span.name for span in collector.spans if span.trace_id.hex() == TRACE_ID}
    assert {"POST /events", "process unsupported"} <= names
