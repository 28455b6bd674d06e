"""How the tests read the service's output: answers, problems, runs, builds."""

from collections.abc import Mapping
from typing import Any

from aiohttp import ClientResponse

from orchestrator.embedded import Build, CodeBuildStandIn
from tests.conftest import Client

_PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance"}


async def read_success(answer: ClientResponse) -> str:
    """The address of the run that handled an event."""
    assert answer.status == 200, await answer.text()
    assert await answer.json() == {"success": True}
    return answer.headers["Location"]


async def read_problem(answer: ClientResponse, status: int) -> dict[str, Any]:
    """A problem by RFC 9457; one after which the sender must retry has a pause."""
    text = await answer.text()
    assert answer.status == status, text
    assert answer.content_type == "application/problem+json", answer.content_type
    problem: dict[str, Any] = await answer.json(content_type=None)
    assert problem.keys() - {"errors"} == _PROBLEM_FIELDS, text
    assert problem["status"] == status, text
    if status in (429, 503):
        pause = answer.headers["Retry-After"]
        assert pause.isdecimal(), pause
        assert int(pause) >= 1, pause
    return problem


async def read_run(service: Client, address: str) -> dict[str, Any]:
    """The run at an address that an answer gave."""
    assert address.startswith("/runs/"), address
    async with service.get(address) as answer:
        assert answer.status == 200, await answer.text()
        run: dict[str, Any] = await answer.json()
    return run


def only_build(codebuild: CodeBuildStandIn) -> Build:
    """The only build."""
    (build,) = codebuild.builds.values()
    return build


def variables(build: Build) -> Mapping[str, str]:
    """A build's environment variables by name."""
    return {variable["name"]: variable["value"] for variable in build.overrides}
