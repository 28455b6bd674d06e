"""The project of the embedded CodeBuild, and a build of it."""

from typing import Any

PROJECT = "standard-tenant"


async def start(codebuild: Any, **parameters: Any) -> str:
    build_id: str = (await codebuild.start_build(projectName=PROJECT, **parameters))["build"]["id"]
    return build_id
