"""Recognizes senders by user and password (HTTP Basic authentication, RFC 7617)."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import attrs
from aiohttp import web

from orchestrator.intake.app_keys import CREDENTIALS
from orchestrator.intake.auth_methods.authorization import read_authorization
from orchestrator.intake.auth_methods.known_secrets import find_match
from orchestrator.intake.sender import Sender
from orchestrator.settings import Basic


@attrs.frozen
class BasicMethod:
    settings: Basic

    @property
    def name(self) -> str:
        return "basic"

    @property
    def scheme(self) -> Mapping[str, Any]:
        return {"type": "http", "scheme": "basic"}

    @property
    def challenge(self) -> str:
        return 'Basic realm="orchestrator", charset="UTF-8"'

    @property
    def refusal(self) -> str:
        return "The header Authorization has no valid user and password: send `Basic` and those."

    async def authenticate(self, request: web.Request) -> Sender | None:
        """Raises TemporaryError: the user's password can't be read."""
        pair = _decode(read_authorization(request, "basic"))
        if pair is None:
            return None
        sent_name, _, sent_password = pair.partition(":")
        users = [user for user in self.settings.users if user.name == sent_name]
        passwords = [user.password for user in users]
        index = await find_match(sent_password, passwords, request.app[CREDENTIALS])
        if index is None:
            return None
        return Sender.of(users[index].name, users[index].scopes)


def _decode(encoded: str | None) -> str | None:
    try:
        return base64.b64decode(encoded or "", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
