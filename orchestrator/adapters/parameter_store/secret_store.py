"""Stores secrets in the Parameter Store of AWS Systems Manager."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.adapters.aws import aws_errors
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import SecretNotFound

if TYPE_CHECKING:
    from types_aiobotocore_ssm import SSMClient


#: PutParameter's quota is 3 a second unless raised (General Reference, Systems Manager endpoints
#: and quotas), with a burst of some 20.
_CHANGES_AT_ONCE = 3
_THROTTLED_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_TOO_FAST = frozenset({"ThrottlingException", "TooManyUpdates"})


class ParameterStore:
    reference_type = "PARAMETER_STORE"
    #: The IAM action that the reader of a reference needs, on `resource`.
    reader_action = "ssm:GetParameters"

    def __init__(
        self,
        client: Callable[[], Awaitable["SSMClient"]],
        *,
        prefix: str,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`client` returns the app's open client; names begin with `prefix`."""
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
        """Make a change, a few at a time; retried after a pause if it was throttled."""
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
