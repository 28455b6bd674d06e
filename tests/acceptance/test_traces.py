"""Traces: an event's spans from its sender to its job and its report, exported into memory."""

from collections.abc import Iterator

import attrs
import pytest
from opentelemetry import propagate
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from orchestrator import Settings
from orchestrator.adapters.tracing import OpenTelemetryTracing
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Callback, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, variables
from tests.acceptance.endings import change_state
from tests.acceptance.queue_desk import StartDesk, accepted
from tests.acceptance.reports import end, provision
from tests.acceptance.stories import PROVISION, send, with_full_tier
from tests.conftest import Client, StartService
from tests.control_plane.receiver import ControlPlane
from tests.faulty_aws import FaultyAWS
from tests.transport import TRANSPORT

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
X_RAY = f"Root=1-{TRACE_ID[:8]}-{TRACE_ID[8:]};Parent={SPAN_ID};Sampled=1"


@attrs.frozen
class Traces:
    """The exported spans."""

    tracing: OpenTelemetryTracing
    exporter: InMemorySpanExporter

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def traces() -> Iterator[Traces]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = propagate.get_global_textmap()
    yield Traces(OpenTelemetryTracing(provider), exporter)
    propagate.set_global_textmap(before)
    provider.shutdown()


@pytest.fixture
async def service(start_service: StartService, settings: Settings, traces: Traces) -> Client:
    return await start_service(with_full_tier(settings), tracing=traces.tracing)


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    return span.parent is not None and span.parent.span_id == parent.context.span_id


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


@pytest.mark.parametrize(
    "headers", [{"traceparent": TRACEPARENT}, {"X-Amzn-Trace-Id": X_RAY}], ids=["W3C", "X-Ray"]
)
async def test_an_event_continues_the_trace_of_its_request(
    service: Client, codebuild: CodeBuildStandIn, traces: Traces, headers: dict[str, str]
) -> None:
    """Request, event, the job's start and the request to AWS are spans within each other, in the
    sender's trace."""
    detail = {"tenantId": "t-1", "tier": "FULL"}
    answer = await service.post("/events", json=envelope(PROVISION, detail), headers=headers)
    assert answer.status == 200
    request, event = traces.one("POST /events"), traces.one(f"process {PROVISION}")
    job = traces.one("RUN standard-tenant")
    assert {trace_id(span) for span in (request, event, job)} == {TRACE_ID}
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == SPAN_ID
    assert request.kind is SpanKind.SERVER
    assert is_child(event, request)
    assert is_child(job, event)
    assert event.attributes is not None
    assert event.attributes["orchestrator.outcome"] == "succeeded"
    assert event.attributes["orchestrator.tenant_id"] == "t-1"
    assert job.attributes is not None
    assert job.attributes["cicd.pipeline.name"] == "standard-tenant"
    assert job.attributes["cicd.pipeline.run.id"] == only_build(codebuild).id
    name = "codebuild.StartBuild" if TRANSPORT == "lean" else "CodeBuild.StartBuild"
    assert is_child(traces.one(name), job)


async def test_a_job_is_given_the_trace_that_opened_its_operation(
    service: Client, codebuild: CodeBuildStandIn, traces: Traces
) -> None:
    """The build's TRACEPARENT is the event's span, so that the build's own spans belong to its
    trace."""
    await send(service, PROVISION, "request")
    event = traces.one(f"process {PROVISION}")
    given = variables(only_build(codebuild))["TRACEPARENT"]
    assert given.startswith(f"00-{trace_id(event)}-{span_id(event):016x}-")


async def test_a_start_that_is_sent_again_has_the_first_trace(
    service: Client, codebuild: CodeBuildStandIn, traces: Traces, clock: ManualClock
) -> None:
    """A start that is sent again has the first trace, since other variables under its start key
    would be refused; the retry's span links to the opener's."""
    codebuild.faults.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    assert (await send(service, PROVISION, "request")).status == 503
    opener = traces.one(f"process {PROVISION}")
    clock.turn(60)
    assert (await send(service, PROVISION, "request")).status == 200
    first, again = traces.named(f"process {PROVISION}")
    assert first is opener
    assert linked(again) == {span_id(opener)}
    assert trace_id(opener) in variables(only_build(codebuild))["TRACEPARENT"]


async def test_a_clean_up_links_to_the_event_that_opened_the_failed_operation(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, traces: Traces
) -> None:
    """A clean-up, which has no sender, links to the event that opened the failed operation."""
    tier = {"jobIdentifier": "standard-tenant", "cleanupJobIdentifier": "standard-tenant-teardown"}
    tiers = Tiers(backend="static", static={"FULL": tier})
    service = await start_service(attrs.evolve(settings, tiers=tiers), tracing=traces.tracing)
    await send(service, PROVISION, "request")
    opener = traces.one(f"process {PROVISION}")
    build = only_build(codebuild)
    codebuild.finish(build.id, "FAILED")
    await change_state(service, build)
    assert linked(traces.one("process TENANT_CLEAN_UP")) == {span_id(opener)}


async def test_an_outcome_links_to_the_event_that_opened_its_operation(
    service: Client, codebuild: CodeBuildStandIn, traces: Traces
) -> None:
    """An outcome, which may follow hours later, has a trace of its own, and links to the event that
    opened its operation."""
    await send(service, PROVISION, "request")
    opener = traces.one(f"process {PROVISION}")
    build = only_build(codebuild)
    codebuild.finish(build.id, "FAILED")
    await change_state(service, build)
    outcome = traces.one(f"process {PROVISION}_FAILURE")
    assert trace_id(outcome) != trace_id(opener)
    assert linked(outcome) == {span_id(opener)}
    assert outcome.attributes is not None
    assert outcome.attributes["cicd.pipeline.result"] == "failure"
    assert is_child(outcome, traces.one("process BUILD_STATE_CHANGE"))


async def test_a_sweep_links_to_what_it_checks(
    service: Client, codebuild: CodeBuildStandIn, traces: Traces, clock: ManualClock
) -> None:
    """The check of a job by a sweep, and its outcome, link to the event that opened the
    operation."""
    await send(service, PROVISION, "request")
    opener = traces.one(f"process {PROVISION}")
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    clock.turn(120)
    await service.post("/events/RECONCILE", json={})
    sweep, check = traces.one("sweep"), traces.one("check jobs")
    assert is_child(check, sweep)
    assert linked(check) == {span_id(opener)}
    outcome = traces.one(f"process {PROVISION}_SUCCESS")
    assert is_child(outcome, check)
    assert linked(outcome) == {span_id(opener)}


async def test_a_report_links_to_the_event_that_opened_its_operation(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    traces: Traces,
) -> None:
    """A report links to the event that opened its operation, and the span of its request has the
    address without secrets."""
    secret = f"{control_plane.url}?key=hunter2#hunter2"
    callback = Callback(url=secret, after="provisioning", timeout_s=30)
    service = await start_service(attrs.evolve(settings, callback=callback), tracing=traces.tracing)
    await provision(service, control_plane)
    opener = traces.one(f"process {PROVISION}")
    await end(service, codebuild)
    report = traces.one("report")
    assert linked(report) == {span_id(opener)}
    post = next(span for span in traces.named("POST") if is_child(span, report))
    assert post.kind is SpanKind.CLIENT
    assert post.attributes is not None
    assert post.attributes["url.full"] == control_plane.url


async def test_a_cloudevent_links_to_its_own_trace(service: Client, traces: Traces) -> None:
    """The span of a CloudEvent links to its `traceparent`, which is that of its creation, and is in
    the request's trace."""
    event = {
        "specversion": "1.0",
        "type": "ORDER",
        "source": "shop",
        "id": "1",
        "data": {},
        "traceparent": TRACEPARENT,
    }
    headers = {"Content-Type": "application/cloudevents+json"}
    assert (await service.post("/events", json=event, headers=headers)).status == 400
    span = traces.one("process unsupported")
    assert trace_id(span) != TRACE_ID
    assert linked(span) == {int(SPAN_ID, 16)}
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "UnsupportedEventType"


async def test_a_message_continues_the_trace_of_its_sender(
    start_desk: StartDesk, traces: Traces
) -> None:
    """The span of a message continues the sender's trace, which SQS passes as an attribute; sending
    and processing have spans by the conventions."""
    desk = await start_desk(tracing=traces.tracing)
    await accepted(desk, envelope(PROVISION, {"tenantId": "t-1", "tier": "FULL"}))
    sent = traces.one("send events")
    assert sent.kind is SpanKind.PRODUCER
    (waiting,) = desk.inbox._waiting
    waiting.message = attrs.evolve(waiting.message, trace=X_RAY)
    await desk.work()
    processed = traces.one("process events")
    assert processed.kind is SpanKind.CONSUMER
    assert trace_id(processed) == TRACE_ID
    assert processed.attributes is not None
    assert processed.attributes["messaging.message.id"] == waiting.message.id
    assert any(is_child(span, processed) for span in traces.named(f"process {PROVISION}"))


async def test_aws_requests_are_children_of_their_event(
    start_service: StartService, in_dynamodb: Settings, aws: FaultyAWS, traces: Traces
) -> None:
    """Each request to AWS is in its event's trace, whichever transport sends it."""
    service = await start_service(in_dynamodb, tracing=traces.tracing)
    await send(service, PROVISION, "request")
    event = traces.one(f"process {PROVISION}")
    requests = [
        span
        for span in traces.exporter.get_finished_spans()
        if span.attributes and span.attributes.get("rpc.system") == "aws-api"
    ]
    assert len(requests) == len(aws.calls)
    assert {trace_id(span) for span in requests} == {trace_id(event)}


async def test_no_secret_is_in_a_span(service: Client, traces: Traces) -> None:
    """No span has a secret of the request or of what is sent to AWS."""
    await send(service, PROVISION, "request", secret="hunter2", context="hunter2-context")
    text = "".join(span.to_json() for span in traces.exporter.get_finished_spans())
    assert "RUN standard-tenant" in text
    assert "hunter2" not in text
