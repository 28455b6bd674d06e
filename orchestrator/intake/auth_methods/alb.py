"""Recognizes users by the claims that an Application Load Balancer has signed.

Elastic Load Balancing, Application Load Balancers, "Authenticate users", "User claims encoding and
signature verification".
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs
from aiohttp import web
from joserfc import jwk
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from orchestrator.core.clock import Clock
from orchestrator.core.events.json_text import parse_json
from orchestrator.intake.auth_methods.key_documents import (
    KEY_DOCUMENTS,
    KeyDocuments,
    KeysById,
)
from orchestrator.intake.auth_methods.token_header import decode_segment, read_header
from orchestrator.intake.sender import Sender, is_name
from orchestrator.settings import Gateway

#: Part of a URL, so nothing else may be in it.
_KEY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_ALGORITHM = "ES256"


@attrs.frozen(slots=False)
class AlbGateway:
    settings: Gateway
    clock: Clock

    name = "gateway"
    scheme = None
    challenge = 'Gateway realm="orchestrator"'
    refusal = (
        "The header x-amzn-oidc-data has no valid claims: send the request through the load "
        "balancer, which authenticates you."
    )

    @cached_property
    def _keys(self) -> KeysById[jwk.ECKey]:
        return KeysById(self._fetch, self.clock)

    async def _fetch(self, documents: KeyDocuments, key_id: str) -> jwk.ECKey:
        document = await documents.fetch(f"{self.settings.keys_url}/{key_id}")
        try:
            return jwk.ECKey.import_key(document)
        except JoseError as error:
            raise ValueError(str(error)) from None

    async def authenticate(self, request: web.Request) -> Sender | None:
        """Raises TemporaryError: the load balancer's public key can't be fetched."""
        token = request.headers.get("x-amzn-oidc-data", "").strip()
        header = read_header(token)
        key_id = header.get("kid")
        if header.get("alg") != _ALGORITHM or header.get("signer") != self.settings.alb_arn:
            return None
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            return None
        key = await self._keys.find(request.app[KEY_DOCUMENTS], key_id)
        claims = _verify(token, key) if key else None
        if claims is None or not self._is_current({**header, **claims}):
            return None
        name = claims.get("email") or claims.get("sub")
        if not is_name(name):
            return None
        return Sender.of(name, self.settings.scopes)

    def _is_current(self, claims: Mapping[str, Any]) -> bool:
        now = int(self.clock.now().timestamp())
        try:
            JWTClaimsRegistry(now=now, exp={"essential": True}).validate(dict(claims))
        except JoseError:
            return False
        return True


def _verify(token: str, key: jwk.ECKey) -> Mapping[str, Any] | None:
    """The claims, if the signature is the key's. The text that was signed has its padding."""
    signed, _, signature = token.rpartition(".")
    algorithm = JWSRegistry.algorithms[_ALGORITHM]
    try:
        if not algorithm.verify(signed.encode(), decode_segment(signature), key):
            return None
        claims = parse_json(decode_segment(signed.partition(".")[2]).decode())
    except (JoseError, ValueError):
        return None
    return claims if isinstance(claims, dict) else None
