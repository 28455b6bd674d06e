"""Events that a Lambda function may be invoked with, written after AWS's documentation; and
mutations."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hypothesis import strategies as st

from orchestrator.testing import envelope
from tests.acceptance.ways import (
    Document,
    alb_event,
    function_url_event,
    http_api_event,
    rest_api_event,
)

ALB_MULTI = partial(alb_event, multi_value=True)
FORMATS: dict[str, Callable[..., Document]] = {
    "REST API": rest_api_event,
    "HTTP API": http_api_event,
    "function URL": function_url_event,
    "ALB": alb_event,
    "ALB, multi-value headers": ALB_MULTI,
}
#: Elastic Load Balancing, "Enable health checks" for functions.
HEALTH_CHECK = {
    "requestContext": {
        "elb": {
            "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-2:123456789012:"
            "targetgroup/orchestrator/6d0ecf831eec9f09"
        }
    },
    "httpMethod": "GET",
    "path": "/healthz",
    "queryStringParameters": {},
    "headers": {"user-agent": "ELB-HealthChecker/2.0"},
    "body": "",
    "isBase64Encoded": False,
}


#: API Gateway developer guide, "Input to an API Gateway Lambda authorizer".
TOKEN_AUTHORIZER = {
    "type": "TOKEN",
    "authorizationToken": "allow",
    "methodArn": "arn:aws:execute-api:us-east-1:123456789012:ymy8tbxw7b/*/GET/",
}
REQUEST_AUTHORIZER = {
    **rest_api_event("POST", "/events"),
    "type": "REQUEST",
    "methodArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef123/test/POST/events",
}
HTTP_API_AUTHORIZER = {
    **http_api_event("POST", "/events"),
    "type": "REQUEST",
    "routeArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef123/test/POST/events",
    "identitySource": ["user1", "123"],
}
#: Amazon Bedrock user guide, "Configure Lambda functions to send information".
BEDROCK_AGENT = {
    "messageVersion": "1.0",
    "agent": {"name": "agent", "id": "ABCDEFGHIJ", "alias": "TSTALIASID", "version": "DRAFT"},
    "inputText": "provision a tenant",
    "sessionId": "123",
    "actionGroup": "tenants",
    "apiPath": "/events",
    "httpMethod": "POST",
    "parameters": [],
}
#: API Gateway developer guide, "Set up a WebSocket API".
WEBSOCKET = {
    "requestContext": {
        "routeKey": "$default",
        "messageId": "JXBvAcvPoAMCJyg=",
        "eventType": "MESSAGE",
        "connectionId": "JXBvAfQdoAMCJDw=",
        "domainName": "70ixmpl4fl.execute-api.us-east-2.amazonaws.com",
        "stage": "prod",
    },
    "body": "{}",
    "isBase64Encoded": False,
}
SQS_AND_OTHER = {"Records": [{"eventSource": "aws:sqs"}, {"eventSource": "aws:s3"}]}


SAMPLES = [
    *(make("POST", "/events?a=1", headers={"a": "1"}, body=b"{}") for make in FORMATS.values()),
    http_api_event("GET", "/a", stage="prod", cookies=["a=1"]),
    rest_api_event("GET", "/a%20b", stage="prod"),
    HEALTH_CHECK,
    BEDROCK_AGENT,
    WEBSOCKET,
    REQUEST_AUTHORIZER,
    SQS_AND_OTHER,
    envelope("ORDER", {}),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("/a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all parts of a document."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*place, key)
            yield from places(part, (*place, key))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A real event in which one or two parts are replaced or missing."""
    event = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(event))
        if not found:
            return event
        *way, last = draw(st.sampled_from(found))
        parent = event
        for key in way:
            parent = parent[key]
        if draw(st.booleans()):
            parent[last] = draw(JSON)
        else:
            del parent[last]
    return event
