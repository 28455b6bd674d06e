"""The stacks that the templates can become."""

import pytest

from tests.deploy.templates import ECS, LAMBDA, Stack

EVERYTHING = {
    "StateMachinePrefix": "tenant-",
    "StateMachines": '{"up": "arn:aws:states:eu-west-1:111122223333:stateMachine:tenant-up"}',
}
STACKS = {
    "queue": Stack(ECS),
    "api-destination": Stack(ECS, {"Target": "api-destination", **EVERYTHING}),
    "private": Stack(ECS, {"Target": "private-api-destination", "SecretStore": "ssm"}),
    "lambda": Stack(LAMBDA),
    "lambda-api": Stack(LAMBDA, {"HttpApi": "true", "SecretStore": "", **EVERYTHING}),
}


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each stack."""
    return STACKS[request.param]
