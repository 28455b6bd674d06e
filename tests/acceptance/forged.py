"""State changes as any sender can write them, and their builds."""

from collections.abc import Mapping
from typing import Any

from orchestrator.embedded import Build, CodeBuildStandIn
from orchestrator.testing import envelope
from tests.acceptance.answers import variables
from tests.conftest import Client

CHANGE = "CodeBuild Build State Change"
ARN = "arn:aws:codebuild:us-east-1:123456789012:build/"
STARTED, PROJECT = "ORCHESTRATOR_RUN_ID", "ORCHESTRATOR_PROJECT"


def forged(
    build_id: str,
    status: str,
    *,
    source: str = "anything",
    start_key: str | None = None,
    about: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """A state change as any sender can write it."""
    project = build_id.partition(":")[0]
    named = {STARTED: start_key, PROJECT: project} if start_key else {}
    environment = [{"name": name, "value": value} for name, value in named.items()]
    detail = {
        "build-id": f"{ARN}{build_id}",
        "build-status": status,
        "project-name": project,
        "additional-information": {
            "environment": {"environment-variables": environment},
            **about,
        },
    }
    return envelope(CHANGE, detail, event_id=f"forged-{build_id}-{status}", source=source)


async def post(service: Client, event: Mapping[str, Any]) -> None:
    """Post a message that is answered 200 without a run's address."""
    answer = await service.post("/events", json=event)
    assert answer.status == 200, await answer.text()
    assert "Location" not in answer.headers


def start_key(build: Build) -> str:
    return variables(build)[STARTED]


def start_of_a_stranger(codebuild: CodeBuildStandIn) -> Build:
    """A running build that the service didn't start."""
    codebuild.add_project("theirs")
    request = {"projectName": "theirs", "environmentVariablesOverride": []}
    return codebuild.builds[codebuild._start_build(request)["build"]["id"]]


def actions(codebuild: CodeBuildStandIn) -> list[str]:
    return [action for action, _ in codebuild.calls]
