"""Runs jobs as CodeBuild builds: a job identifier is a project's name, a start is one
StartBuild."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from orchestrator.adapters.aws import aws_errors
from orchestrator.adapters.codebuild.builds import PROJECT, describe_build
from orchestrator.adapters.codebuild.listings import BuildListings, NoSuchProject
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import PayloadMismatch, PermanentError, TemporaryError
from orchestrator.core.events.javascript import to_text
from orchestrator.core.jobs.job_description import JobDescription, SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.secrets.references import is_reference

if TYPE_CHECKING:
    from types_aiobotocore_codebuild import CodeBuildClient
    from types_aiobotocore_codebuild.type_defs import (
        EnvironmentVariableTypeDef,
        StartBuildInputTypeDef,
    )

_BATCH_LIMIT = 100

#: The options of a tier: StartBuild's parameter for each, and its type (API reference).
_OPTIONS: Mapping[str, tuple[str, type]] = {
    "buildspec": ("buildspecOverride", str),
    "computeType": ("computeTypeOverride", str),
    "environmentType": ("environmentTypeOverride", str),
    "image": ("imageOverride", str),
    "serviceRole": ("serviceRoleOverride", str),
    "sourceVersion": ("sourceVersion", str),
    "timeoutInMinutes": ("timeoutInMinutesOverride", int),
}
#: The constraints of those parameters (API reference, StartBuild).
_NOT_EMPTY = frozenset({"image", "serviceRole"})
_MINUTES = range(5, 2161)


class CodeBuildBuilder:
    def __init__(
        self,
        client: Callable[[], Awaitable["CodeBuildClient"]],
        listings: BuildListings,
        *,
        name: str,
        overrides: Mapping[str, Any] = {},
    ) -> None:
        """`client` returns the app's open client; `overrides` are parameters of each StartBuild."""
        self._client = client
        self._listings = listings
        self._name = name
        self._overrides = overrides
        self.description = "CodeBuild"
        self.permissions = (
            Permission(
                (
                    "codebuild:StartBuild",
                    "codebuild:StopBuild",
                    "codebuild:BatchGetBuilds",
                    "codebuild:ListBuildsForProject",
                ),
                "arn:aws:codebuild:*:*:project/*",
            ),
            # ListBuilds has no resource types (Service authorization reference, CodeBuild).
            Permission(("codebuild:ListBuilds",), "*"),
        )

    def configured(self, options: Mapping[str, Any]) -> "CodeBuildBuilder":
        overrides = dict(_override(name, value) for name, value in sorted(options.items()))
        return CodeBuildBuilder(self._client, self._listings, name=self._name, overrides=overrides)

    async def check(self) -> None:
        client = await self._client()
        with aws_errors("CodeBuild BatchGetBuilds"):
            await client.batch_get_builds(ids=["orchestrator-check:0"])

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        """Start a build of the project `job_identifier`."""
        client = await self._client()
        request = self.build_start(job_identifier, params, start_key=start_key)
        with aws_errors(
            "CodeBuild StartBuild",
            missing=f"There is no CodeBuild project {job_identifier!r}: create it, or correct the "
            "tier's job identifier.",
        ):
            answer = await client.start_build(**request)
            return describe_build(answer["build"], builder=self._name).job

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> "StartBuildInputTypeDef":
        """The request of a start. The start key is its idempotency token: for 5 minutes CodeBuild
        answers a repeated start with the same build (API reference, StartBuild)."""
        if not isinstance(cast("object", job_identifier), str) or not job_identifier:
            raise PermanentError(f"{job_identifier!r} names no CodeBuild project: it must be text.")
        # A shared project is named by its ARN, its builds by the project's name.
        project = job_identifier.rpartition(":project/")[2]
        return {
            "projectName": job_identifier,
            "environmentVariablesOverride": environment_variables({**params, PROJECT: project}),
            "idempotencyToken": start_key,
            # One start is one build: CodeBuild must not retry it automatically.
            "autoRetryLimitOverride": 0,
            **self._overrides,  # type: ignore[typeddict-item]
        }

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The build of the project with the start key.

        If the project was deleted, its builds are searched among the account's.
        """
        if not job_identifier:
            return None
        try:
            return await self._listings.find(
                job_identifier, start_key=start_key, started_after=started_after
            )
        except NoSuchProject:
            return await self.find_job_anywhere(start_key=start_key, started_after=started_after)

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        """The build with the start key, of any project of the account."""
        return await self._listings.find(None, start_key=start_key, started_after=started_after)

    async def stop_job(self, *, job_id: str) -> None:
        client = await self._client()
        with aws_errors("CodeBuild StopBuild"):
            try:
                await client.stop_build(id=job_id)
            except client.exceptions.ResourceNotFoundException:
                return

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        """Describe builds, 100 with one request (API reference, BatchGetBuilds)."""
        client = await self._client()
        found, failed = dict[str, JobDescription](), set[str]()
        for start in range(0, len(job_ids), _BATCH_LIMIT):
            batch = list(job_ids[start : start + _BATCH_LIMIT])
            with aws_errors("CodeBuild BatchGetBuilds"):
                answer = await client.batch_get_builds(ids=batch)
                builds = {build["id"]: build for build in answer["builds"]}
            for build_id, build in builds.items():
                try:
                    with aws_errors(f"CodeBuild BatchGetBuilds {build_id}"):
                        found[build_id] = describe_build(build, builder=self._name)
                except TemporaryError as error:
                    failed.add(build_id)
                    trouble = str(error)
        if failed:
            raise SomeNotDescribed(trouble, reports=found, failed=failed)
        return found


def _override(name: str, value: Any) -> tuple[str, Any]:
    known = _OPTIONS.get(name)
    if known is None:
        listed = ", ".join(_OPTIONS)
        raise _option_error(f"codebuild.{name} is no option of a tier; there is {listed}.")
    parameter, kind = known
    if not isinstance(value, kind) or isinstance(value, bool):
        said = "a whole number" if kind is int else "text"
        raise _option_error(f"codebuild.{name} is {value!r}: it must be {said}.")
    if value == "" and name in _NOT_EMPTY:
        raise _option_error(f"codebuild.{name} is empty: leave it out, or give it a value.")
    if kind is int and value not in _MINUTES:
        said = f"from {_MINUTES[0]} to {_MINUTES[-1]}"
        raise _option_error(f"codebuild.{name} is {value!r}: it must be {said}.")
    return parameter, value


def _option_error(sentence: str) -> PermanentError:
    return PermanentError(sentence, errors=[PayloadMismatch("$.planConfig.tier", sentence)])


def environment_variables(params: Mapping[str, Any]) -> "list[EnvironmentVariableTypeDef]":
    """The variables in CodeBuild's format, sorted by name so that a repeated start is identical.

    Values are converted to text as in JavaScript, None is omitted;
    `{"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value": reference}` keeps its type.
    """
    return [_variable(name, value) for name, value in sorted(params.items()) if value is not None]


def _variable(name: str, value: Any) -> "EnvironmentVariableTypeDef":
    if not name:
        raise PermanentError("A variable of the job has an empty name: give it one.")
    if is_reference(value):
        return {"name": name, "value": value["value"], "type": value["type"]}
    return {"name": name, "value": to_text(value), "type": "PLAINTEXT"}
