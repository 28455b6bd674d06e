"""Recognizes senders by an API key in a header."""

from collections.abc import Mapping
from typing import Any

import attrs
from aiohttp import web

from orchestrator.intake.app_keys import CREDENTIALS
from orchestrator.intake.auth_methods.known_secrets import find_match
from orchestrator.intake.sender import Sender
from orchestrator.settings import ApiKey


@attrs.frozen
class ApiKeyMethod:
    settings: ApiKey

    @property
    def name(self) -> str:
        return "apiKey"

    @property
    def scheme(self) -> Mapping[str, Any]:
        return {"type": "apiKey", "in": "header", "name": self.settings.header}

    @property
    def challenge(self) -> str:
        return f'ApiKey header="{self.settings.header}"'

    @property
    def refusal(self) -> str:
        return (
            f"The header {self.settings.header} has no valid key: send one of the service's API "
            "keys."
        )

    async def authenticate(self, request: web.Request) -> Sender | None:
        """Raises TemporaryError: a key can't be read, and the sent key is none of the others."""
        keys = self.settings.all_keys
        sent = request.headers.get(self.settings.header, "")
        index = await find_match(sent, [key.key for key in keys], request.app[CREDENTIALS])
        if index is None:
            return None
        return Sender.of(keys[index].name, keys[index].scopes)
