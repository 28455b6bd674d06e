"""Stores secrets in AWS Secrets Manager."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.adapters.aws import aws_errors
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import PermanentError, SecretNotFound, TemporaryError

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient


class SecretsManagerStore:
    reference_type = "SECRETS_MANAGER"
    #: The IAM action that the reader of a reference needs, on `resource`.
    reader_action = "secretsmanager:GetSecretValue"

    def __init__(
        self, client: Callable[[], Awaitable["SecretsManagerClient"]], *, prefix: str
    ) -> None:
        """`client` returns the app's open client; names begin with `prefix`."""
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
        # AWS appends six random characters to each ARN.
        arn = f"arn:aws:secretsmanager:*:*:secret:{name}-??????"
        return Permission((self.reader_action,), name if name.startswith("arn:") else arn)

    async def put(self, *, name: str, value: str) -> None:
        if not value:  # API reference, CreateSecret, SecretString
            raise PermanentError(f"Secrets Manager can't store an empty secret: {name!r}.")
        client = await self._client()
        with aws_errors("Secrets Manager CreateSecret"):
            try:
                await client.create_secret(Name=name, SecretString=value)
            except client.exceptions.ResourceExistsException:
                pass
            else:
                return
        # An equal value isn't written: a start may be retried often, and AWS keeps a day's
        # versions, 100 at most (user guide, Secrets Manager quotas).
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
                # The secret is marked for deletion (API reference, GetSecretValue).
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
