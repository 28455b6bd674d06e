"""What the tests of what is Jenkins' own share."""

from collections.abc import AsyncIterator

import pytest

from orchestrator.adapters.jenkins.builder import JenkinsBuilder
from tests.contracts.jenkins.scene import JOB, Safe, open_builder
from tests.jenkins.stand_in import START_KEY, JenkinsStandIn, open_jenkins_stand_in


@pytest.fixture
async def jenkins() -> AsyncIterator[JenkinsStandIn]:
    async with open_jenkins_stand_in(jobs={JOB: (START_KEY, "A", "flag", "plan")}) as jenkins:
        yield jenkins


@pytest.fixture
def safe() -> Safe:
    return Safe()


@pytest.fixture
async def builder(jenkins: JenkinsStandIn, safe: Safe) -> AsyncIterator[JenkinsBuilder]:
    async with open_builder(jenkins, safe) as builder:
        yield builder
