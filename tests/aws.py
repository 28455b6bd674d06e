"""The AWS session of the tests' own clients, and AWS as the service opens it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

import attrs
import pytest
from aiobotocore.config import AioConfig

from orchestrator.adapters.aws import AWS, Transport, clients_of, new_session, open_aws
from orchestrator.embedded.codebuild import REGION


@attrs.frozen
class Session:
    """Opens the tests' own clients, with whichever SDK there is."""

    client: Callable[..., AbstractAsyncContextManager[Any]]


@cache
def aws_session() -> Session:
    """One session for each process, which parses the descriptions of AWS's services once.

    Like the service's its clients don't validate parameters; `tests.request_shapes` does.
    """
    session = new_session()
    session.set_credentials("testing", "testing")
    session.set_config_variable("region", REGION)
    session.set_default_client_config(AioConfig(parameter_validation=False))
    return Session(clients_of(session))


@asynccontextmanager
async def open_service_aws(url: str, transport: Transport = "sdk") -> AsyncIterator[AWS]:
    """AWS as the service opens it, with every service of AWS at the URL."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
        }.items():
            environment.setenv(name, value)
        async with open_aws(
            dynamodb_region=None,
            events_region=None,
            connect_timeout_s=5,
            read_timeout_s=20,
            transport=transport,
        ) as aws:
            yield aws
