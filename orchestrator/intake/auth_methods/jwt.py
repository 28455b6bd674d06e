"""Recognizes senders by an access token (JWT, RFC 7519) of an issuer, as a bearer token (RFC 6750).

EventBridge's connections get one by OAuth client credentials, from Amazon Cognito for instance.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import attrs
from aiohttp import web
from joserfc import jwk, jws
from joserfc.errors import JoseError
from joserfc.jwt import JWTClaimsRegistry

from orchestrator.core.clock import Clock
from orchestrator.core.events.json_text import parse_json
from orchestrator.intake.auth_methods.authorization import read_authorization
from orchestrator.intake.auth_methods.key_documents import (
    KEY_DOCUMENTS,
    KeyCache,
    KeyDocuments,
)
from orchestrator.intake.auth_methods.token_header import read_header
from orchestrator.intake.sender import Sender, is_name
from orchestrator.settings import Jwt
from orchestrator.settings.auth import ALL_SCOPES, Scope


@attrs.frozen(slots=False)
class JwtMethod:
    settings: Jwt
    clock: Clock

    @property
    def name(self) -> str:
        return "jwt"

    @property
    def scheme(self) -> Mapping[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}

    @property
    def challenge(self) -> str:
        return 'Bearer realm="orchestrator"'

    @property
    def refusal(self) -> str:
        return (
            f"The header Authorization has no valid access token of {self.settings.issuer}: send "
            "`Bearer` and one."
        )

    @cached_property
    def _keys(self) -> KeyCache[jwk.Key]:
        return KeyCache(self._fetch, self.clock)

    async def _fetch(self, documents: KeyDocuments) -> Mapping[str, jwk.Key]:
        return _read_keys(await documents.fetch(self.settings.keys_url))

    async def authenticate(self, request: web.Request) -> Sender | None:
        """Raises TemporaryError: the issuer's keys can't be fetched."""
        token = read_authorization(request, "bearer")
        header = read_header(token) if token else {}
        key_id, algorithm = header.get("kid"), header.get("alg")
        if token is None or not isinstance(key_id, str):
            return None
        if algorithm not in self.settings.algorithms:
            return None
        # An extension that isn't supported must be refused (RFC 7515, section 4.1.11): none is.
        if "crit" in header:
            return None
        key = await self._keys.find(request.app[KEY_DOCUMENTS], key_id)
        if key is None:
            return None
        try:
            payload = jws.deserialize_compact(token, key, algorithms=[algorithm]).payload
            claims = parse_json(payload or b"")
            if not isinstance(claims, dict):
                return None
            self._valid_claims.validate(claims)
        except (JoseError, ValueError):
            return None
        return self._sender(claims)

    @property
    def _valid_claims(self) -> JWTClaimsRegistry:
        return JWTClaimsRegistry(
            now=int(self.clock.now().timestamp()),
            leeway=self.settings.leeway_s,
            iss={"essential": True, "value": self.settings.issuer},
            exp={"essential": True},
        )

    def _sender(self, claims: Mapping[str, Any]) -> Sender | None:
        """The sender whom the claims name; None if the token is for another service. Its client
        counts only if it names no audience: another service that received a token of the client
        must not be able to use it here (RFC 7519, section 4.1.3)."""
        client = claims.get("client_id", claims.get("azp"))
        named = claims.get("aud")
        audiences = named if isinstance(named, list) else [named]
        is_for_us = any(audience in audiences for audience in self.settings.audiences)
        is_of_client = named is None and client in self.settings.clients
        # Cognito's id tokens say "id"; they are made for the client, not for a service.
        if claims.get("token_use", "access") != "access":
            return None
        if not is_for_us and not is_of_client:
            return None
        name = client if isinstance(client, str) else claims.get("sub")
        if not is_name(name):
            return None
        return Sender(name=name, scopes=self._scopes(claims))

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        """The scopes of the settings, and the token's own: `events:write`, or in Cognito
        `RESOURCE-SERVER/events:write` (RFC 8693, section 4.2)."""
        text = claims.get("scope")
        own = [name.rpartition("/")[2] for name in text.split()] if isinstance(text, str) else []
        return frozenset(scope for scope in ALL_SCOPES if scope in (*self.settings.scopes, *own))


def _read_keys(document: bytes) -> dict[str, jwk.Key]:
    """The public keys of a JWK set by their ids (RFC 7517, section 5); those of unknown kinds are
    ignored, as the specification requires, and private ones, which are published, so that any
    client could sign with them."""
    keys: dict[str, jwk.Key] = {}
    match parse_json(document):
        case {"keys": list(described)}:
            for key in described:
                with suppress(JoseError, TypeError, ValueError):
                    match key:
                        case {"kid": str(key_id), "kty": str()}:
                            found = jwk.import_key(key)
                            if not found.is_private:
                                keys[key_id] = found
    if not keys:
        raise ValueError("it is no set of keys, or none of them can be read")
    return keys
