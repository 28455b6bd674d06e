"""Jobs as CodeBuild builds: a job identifier is a project's name, a start one StartBuild."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import aws_errors
from orchestrator.core.javascript import to_text
from orchestrator.core.ports import Permission
from orchestrator.core.records import Job

if TYPE_CHECKING:
    from types_aiobotocore_codebuild import CodeBuildClient
    from types_aiobotocore_codebuild.type_defs import EnvironmentVariableTypeDef

_REFERENCE_TYPES = frozenset({"SECRETS_MANAGER", "PARAMETER_STORE"})


class CodeBuildBuilder:
    def __init__(self, client: Callable[[], Awaitable["CodeBuildClient"]], *, name: str) -> None:
        """`client` gives the client that the app keeps open."""
        self._client = client
        self._name = name
        self.description = "CodeBuild"
        self.permissions = (
            Permission(
                ("codebuild:StartBuild", "codebuild:BatchGetBuilds"),
                "arn:aws:codebuild:*:*:project/*",
            ),
        )

    async def check(self) -> None:
        client = await self._client()
        with aws_errors("CodeBuild BatchGetBuilds"):
            await client.batch_get_builds(ids=["orchestrator-check:0"])

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """Start a build of the project `job_identifier`.

        The start key is the idempotency token: for 5 minutes CodeBuild answers a repeated
        start with the build that it made (API reference, StartBuild).
        """
        client = await self._client()
        with aws_errors(
            "CodeBuild StartBuild",
            missing=f"There is no CodeBuild project {job_identifier!r}: create it, or mend the "
            "tier's job identifier.",
        ):
            answer = await client.start_build(
                projectName=job_identifier,
                environmentVariablesOverride=environment_variables(params),
                idempotencyToken=start_key,
                # One start is one build: CodeBuild must not start it again by itself.
                autoRetryLimitOverride=0,
            )
        build = answer["build"]
        return Job(
            id=build["id"],
            builder=self._name,
            job_identifier=job_identifier,
            log_url=build.get("logs", {}).get("deepLink"),
        )


def environment_variables(params: Mapping[str, Any]) -> "list[EnvironmentVariableTypeDef]":
    """The variables in CodeBuild's form, sorted by name so that a repeated start is the same.

    A value is printed as JavaScript prints it and None is left out;
    `{"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value": reference}` keeps its type.
    """
    return [_variable(name, value) for name, value in sorted(params.items()) if value is not None]


def _variable(name: str, value: Any) -> "EnvironmentVariableTypeDef":
    match value:
        case {"type": str(kind), "value": str(reference)} if (
            len(value) == 2 and kind in _REFERENCE_TYPES
        ):
            return {"name": name, "value": reference, "type": kind}  # type: ignore[typeddict-item]
    return {"name": name, "value": to_text(value), "type": "PLAINTEXT"}
