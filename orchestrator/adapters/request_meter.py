"""Counts, measures and traces the requests to AWS."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.core.metrics import AWS_REQUEST_DURATION, AWS_REQUESTS, Metrics, count_request
from orchestrator.core.tracing import SpanKind, Tracing

#: When a call began, in botocore's context of it.
_BEGAN = "orchestrator_began"


#: Error codes of requests that were too many (botocore, retries/standard.py).
_THROTTLING_CODES = frozenset(
    {
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


class RequestMeter:
    """Counts and measures the requests of one client."""

    def __init__(self, service: str, metrics: Metrics, tracing: Tracing) -> None:
        self._service = service
        self._metrics = metrics
        self._tracing = tracing

    def watch(self, events: Any) -> None:
        """Measure all requests that emit botocore's events; each call emits these once, whatever
        its retries (boto3 developer guide, Extensibility guide)."""
        events.register("before-call", self._begin)
        events.register("after-call", self._end)
        events.register("after-call-error", self._fail)

    @contextmanager
    def call(self, operation: str) -> Iterator[None]:
        """Measure a call that emits no events, and that OpenTelemetry's instrumentation of the SDK
        doesn't see (Semantic conventions for AWS SDK)."""
        from botocore.exceptions import ClientError

        began, result = time.perf_counter(), "unreachable"
        about = {"rpc.system": "aws-api", "rpc.service": self._service, "rpc.method": operation}
        try:
            with self._tracing.span(f"{self._service}.{operation}", SpanKind.CLIENT, about):
                yield
            result = "ok"
        except ClientError as error:
            result = _result_of(error.response)
            raise
        finally:
            self._ended(operation, result, began)

    def _ended(self, operation: str, result: str, began: float) -> None:
        """A call ended, which began at that time of `time.perf_counter`."""
        count_request()
        took_s = time.perf_counter() - began
        self._metrics.add(AWS_REQUESTS, self._service, operation, result)
        self._metrics.observe(AWS_REQUEST_DURATION, took_s, self._service, operation)

    def _begin(self, context: dict[str, Any], **_: Any) -> None:
        context[_BEGAN] = time.perf_counter()

    def _end(self, model: Any, parsed: Any, context: dict[str, Any], **_: Any) -> None:
        self._ended(model.name, _result_of(parsed), context[_BEGAN])

    def _fail(self, context: dict[str, Any], event_name: str, **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        self._ended(operation, "unreachable", context[_BEGAN])


def _result_of(answer: Any) -> str:
    """The result of a request by its answer, as botocore parses it: `ok`, `conflict` (a condition
    of a transaction doesn't hold, which is expected), `throttled`, `refused` or `failed`."""
    code = answer.get("Error", {}).get("Code")
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if status < 300:
        return "ok"
    if code in _THROTTLING_CODES:
        return "throttled"
    if code == "TransactionCanceledException":
        return "conflict"
    return "refused" if status < 500 else "failed"
