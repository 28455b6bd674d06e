"""The AWS session of the tests' own clients."""

from functools import cache

import aioboto3

from orchestrator.embedded.codebuild import REGION


@cache
def aws_session() -> aioboto3.Session:
    """One a process, which parses the descriptions of AWS's services once."""
    return aioboto3.Session("testing", "testing", region_name=REGION)
