"""The AWS session of the tests' own clients, and AWS as the service opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import aioboto3
import pytest
from aiobotocore.config import AioConfig

from orchestrator.adapters.aws import AWS, Transport, _new_session, open_aws
from orchestrator.embedded.codebuild import REGION


@cache
def aws_session() -> aioboto3.Session:
    """One a process, which parses the descriptions of AWS's services once.

    Like the service's its clients don't validate parameters; `tests.request_shapes` does.
    """
    session = _new_session()
    session.set_default_client_config(AioConfig(parameter_validation=False))
    return aioboto3.Session("testing", "testing", region_name=REGION, botocore_session=session)


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
