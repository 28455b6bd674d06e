"""Secrets in AWS: Secrets Manager, and the Parameter Store of Systems Manager."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.adapters.aws import aws_errors
from orchestrator.core.errors import SecretNotFound, TemporaryError
from orchestrator.core.ports import Permission

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient
    from types_aiobotocore_ssm import SSMClient


#: PutParameter's rate is 3 a second unless an account has raised it (General Reference, Systems
#: Manager endpoints and quotas), with a burst of some 20.
_CHANGES_AT_ONCE = 3
_THROTTLED_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_TOO_FAST = frozenset({"ThrottlingException", "TooManyUpdates"})


class SecretsManagerStore:
    reference_type = "SECRETS_MANAGER"
    #: What whoever is given a reference must be allowed, on this.
    reader_action = "secretsmanager:GetSecretValue"

    def __init__(
        self, client: Callable[[], Awaitable["SecretsManagerClient"]], *, prefix: str
    ) -> None:
        """`client` gives the client that the app keeps open; names begin with `prefix`."""
        self._client = client
        self._prefix = prefix
        self.description = f"Secrets Manager, under {prefix}/"
        self.resource = f"arn:aws:secretsmanager:*:*:secret:{prefix}/*"
        self.permissions = (
            Permission(
                (
                    "secretsmanager:CreateSecret",
                    "secretsmanager:DeleteSecret",
                    "secretsmanager:GetSecretValue",
                    "secretsmanager:PutSecretValue",
                ),
                self.resource,
            ),
        )

    def permission(self, name: str) -> Permission:
        # AWS ends each ARN with six characters of its own.
        arn = f"arn:aws:secretsmanager:*:*:secret:{name}-??????"
        return Permission((self.reader_action,), name if name.startswith("arn:") else arn)

    async def put(self, *, name: str, value: str) -> None:
        client = await self._client()
        with aws_errors("Secrets Manager CreateSecret"):
            try:
                await client.create_secret(Name=name, SecretString=value)
            except client.exceptions.ResourceExistsException:
                pass
            else:
                return
        # A start may be tried again many times, and each new version counts: AWS keeps those of a
        # day, 100 at most (user guide, Secrets Manager quotas).
        if await self.read(name=name) == value:
            return
        with aws_errors("Secrets Manager PutSecretValue"):
            await client.put_secret_value(SecretId=name, SecretString=value)

    async def read(self, *, name: str) -> str:
        client = await self._client()
        with aws_errors("Secrets Manager GetSecretValue"):
            try:
                answer = await client.get_secret_value(SecretId=name)
            except (
                client.exceptions.ResourceNotFoundException,
                # It is marked for deletion (API reference, GetSecretValue).
                client.exceptions.InvalidRequestException,
            ) as error:
                raise SecretNotFound(name, "Secrets Manager") from error
        if "SecretString" not in answer:
            raise TemporaryError(f"The secret {name!r} is binary: store it as text.")
        return answer["SecretString"]

    async def remove(self, *, name: str) -> None:
        client = await self._client()
        with aws_errors("Secrets Manager DeleteSecret"):
            try:
                await client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
            except client.exceptions.ResourceNotFoundException:
                return

    async def check(self) -> None:
        with suppress(SecretNotFound):
            await self.read(name=f"{self._prefix}/check")


class ParameterStore:
    reference_type = "PARAMETER_STORE"
    #: What whoever is given a reference must be allowed, on this.
    reader_action = "ssm:GetParameters"

    def __init__(
        self,
        client: Callable[[], Awaitable["SSMClient"]],
        *,
        prefix: str,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`client` gives the client that the app keeps open; names begin with `prefix`."""
        self._client = client
        self._prefix = prefix
        self._pause = pause
        self._changing = asyncio.Semaphore(_CHANGES_AT_ONCE)
        self.description = f"the Parameter Store, under {prefix}/"
        self.resource = f"arn:aws:ssm:*:*:parameter{prefix}/*"
        self.permissions = (
            Permission(
                ("ssm:DeleteParameter", "ssm:GetParameter", "ssm:PutParameter"), self.resource
            ),
        )

    def permission(self, name: str) -> Permission:
        arn = f"arn:aws:ssm:*:*:parameter/{name.lstrip('/')}"
        return Permission(("ssm:GetParameter",), name if name.startswith("arn:") else arn)

    async def put(self, *, name: str, value: str) -> None:
        client = await self._client()
        put = partial(
            client.put_parameter,
            Name=name,
            Value=value,
            Type="SecureString",
            Overwrite=True,
            # More than 4 kB needs the advanced tier (API reference, PutParameter).
            Tier="Intelligent-Tiering",
        )
        await self._change("PutParameter", put)

    async def read(self, *, name: str) -> str:
        client = await self._client()
        with aws_errors("Parameter Store GetParameter"):
            try:
                answer = await client.get_parameter(Name=name, WithDecryption=True)
            except client.exceptions.ParameterNotFound as error:
                raise SecretNotFound(name, "the Parameter Store") from error
            return answer["Parameter"]["Value"]

    async def remove(self, *, name: str) -> None:
        client = await self._client()

        async def delete() -> None:
            with suppress(client.exceptions.ParameterNotFound):
                await client.delete_parameter(Name=name)

        await self._change("DeleteParameter", delete)

    async def _change(self, call: str, change: Callable[[], Awaitable[object]]) -> None:
        """A few at a time, and again after a pause where that was too fast."""
        from botocore.exceptions import ClientError

        async with self._changing:
            for pause_s in (*_THROTTLED_PAUSES_S, None):
                with aws_errors(f"Parameter Store {call}"):
                    try:
                        await change()
                    except ClientError as error:
                        code = error.response.get("Error", {}).get("Code")
                        if pause_s is None or code not in _TOO_FAST:
                            raise
                    else:
                        return
                await self._pause(pause_s)

    async def check(self) -> None:
        with suppress(SecretNotFound):
            await self.read(name=f"{self._prefix}/check")
