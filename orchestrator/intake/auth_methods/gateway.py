"""Believes the gateway in front of the service, which has authenticated the sender.

| `auth.gateway.proof` | what is believed |
| --- | --- |
| `alb` | the claims that an Application Load Balancer has signed: see `alb.py` |
| `lambda` | the IAM identity in the event of a Lambda invocation |
| `network` | that nothing else can reach the service's port |
"""

from collections.abc import Mapping
from typing import Any

import attrs
from aiohttp import web

from orchestrator.intake.auth import CALLER_HEADER
from orchestrator.intake.sender import Sender
from orchestrator.settings import Gateway


@attrs.frozen
class NetworkGateway:
    """Whatever reaches the service has been authenticated."""

    settings: Gateway

    name = "gateway"
    scheme = None
    challenge = 'Gateway realm="orchestrator"'
    refusal = "Send the request through the gateway in front of the service."

    async def authenticate(self, _: web.Request) -> Sender | None:
        return Sender.of("gateway", self.settings.scopes)


@attrs.frozen
class LambdaGateway:
    """The caller whom API Gateway or a function URL has authenticated by IAM. The header is set by
    the Lambda handler alone, which removes it from senders' requests."""

    settings: Gateway

    name = "gateway"
    scheme: Mapping[str, Any] = {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "x-amazon-apigateway-authtype": "awsSigv4",
    }
    challenge = "AWS4-HMAC-SHA256"
    refusal = "The invocation names no IAM identity: sign the request (AWS Signature Version 4)."

    async def authenticate(self, request: web.Request) -> Sender | None:
        arn = request.headers.get(CALLER_HEADER)
        return Sender.of(arn, self.settings.scopes) if arn else None
