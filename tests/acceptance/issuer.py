"""An issuer of tokens on this host: its public keys over HTTP, and tokens of any kind."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwk, jwt
from joserfc.jws import JWSRegistry

from orchestrator.testing import ManualClock

#: Made once: an RSA key takes a while.
RSA = jwk.RSAKey.generate_key(2048, parameters={"kid": "rsa-1"})
OTHER_RSA = jwk.RSAKey.generate_key(2048, parameters={"kid": "rsa-2"})
EC = jwk.ECKey.generate_key("P-256", parameters={"kid": "ec-1"})


@attrs.define
class Issuer:
    """`keys` is its published JWK set; `answer` replaces it, `asked` has the requests."""

    url: str
    clock: ManualClock
    keys: list[dict[str, Any]] = attrs.field(
        factory=lambda: [key.as_dict(private=False) for key in (RSA, EC)]
    )
    answer: web.Response | None = None
    asked: list[str] = attrs.field(factory=list)

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of a token that is accepted for the audience `events`."""
        now = int(self.clock.now().timestamp())
        return {"iss": self.url, "aud": "events", "sub": "partner", "iat": now, "exp": now + 600}

    def token(
        self, *, key: Any = RSA, alg: str = "RS256", kid: str | None = None, **own: Any
    ) -> str:
        """A signed token; a claim that is None is left out."""
        claims = {
            name: value for name, value in {**self.claims, **own}.items() if value is not None
        }
        header = {"alg": alg, "kid": kid or key.kid}
        return jwt.encode(header, claims, key, algorithms=[alg])

    def signed(self, header: Mapping[str, Any], claims: str | None = None) -> str:
        """A token with further fields in its header, and any text as its claims."""
        fields = _encode({"alg": "RS256", "kid": RSA.kid, **header})
        text = json.dumps(self.claims) if claims is None else claims
        signed = f"{fields}.{base64.urlsafe_b64encode(text.encode()).decode().rstrip('=')}"
        signature = JWSRegistry.algorithms["RS256"].sign(signed.encode(), RSA)
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def forged(self, algorithm: str) -> str:
        """A token that names the issuer's key and isn't signed by it: unsigned for `none`, else by
        HMAC with the public key's text as the secret."""
        header = {"alg": algorithm, "kid": RSA.kid}
        signed = f"{_encode(header)}.{_encode(self.claims)}"
        if algorithm == "none":
            return f"{signed}."
        mac = hmac.digest(RSA.as_pem(private=False), signed.encode(), hashlib.sha256)
        return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    def alb_data(self, *, signer: str, kid: str | None = None, **own: Any) -> str:
        """The header x-amzn-oidc-data as a load balancer sends it, with padding."""
        claims = {"sub": "1234", "email": "ops@saas.example", "iss": "https://idp.example", **own}
        exp = own.pop("exp", int(self.clock.now().timestamp()) + 120)
        header = {"typ": "JWT", "alg": "ES256", "kid": kid or EC.kid, "signer": signer, "exp": exp}
        signed = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode()
            for part in (header, claims)
        )
        private = EC.private_key
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        numbers = utils.decode_dss_signature(private.sign(signed.encode(), ec.ECDSA(SHA256())))
        raw = b"".join(number.to_bytes(32, "big") for number in numbers)
        return f"{signed}.{base64.urlsafe_b64encode(raw).decode()}"


def _encode(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@asynccontextmanager
async def open_issuer(clock: ManualClock) -> AsyncIterator[Issuer]:
    """An issuer with its JWK set, and the PEM of a load balancer's key."""

    async def show(request: web.Request) -> web.StreamResponse:
        issuer.asked.append(request.path)
        is_set = request.path == "/.well-known/jwks.json"
        if is_set and issuer.answer is not None:
            return issuer.answer
        if is_set or request.path == "/moved.json":
            return web.json_response({"keys": issuer.keys})
        if request.path == f"/{EC.kid}":
            return web.Response(body=EC.as_pem(private=False))
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path:.*}", show)
    async with TestServer(app, host="127.0.0.1") as server:
        issuer = Issuer(str(server.make_url("")).rstrip("/"), clock)
        yield issuer
