"""The settings of authentication: its methods, and whom each of them recognizes."""

import re
from collections.abc import Sequence
from typing import Literal, get_args

import attrs

from orchestrator.settings.validation import HEADER_NAME, NAMELESS, is_safe_url, masked

#: A permission of a sender; each route requires one of them, or none.
Scope = Literal["events:write", "runs:read", "runs:write", "metrics:read"]
ALL_SCOPES: tuple[Scope, ...] = get_args(Scope)

#: A hash as `sha256sum` prints it.
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_ALB = re.compile(
    r"arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\d{12}:loadbalancer/app/[^/]+/[0-9a-f]+"
)


def _check_secret(secret: str, kind: str, setting: str) -> None:
    if NAMELESS.fullmatch(secret):
        raise ValueError(f"{setting} has a reference without a name, such as ssm:NAME")
    if not secret.strip():
        raise ValueError(
            f"{setting} has a {kind} that is empty or blank, which would accept a request without "
            f"a {kind}: remove it"
        )
    if secret.startswith("sha256:") and not _HASH.fullmatch(secret):
        raise ValueError(
            f"{setting} has a hash that isn't one: write sha256: and 64 lower-case hex digits"
        )


@attrs.frozen(kw_only=True)
class Key:
    """An API key, its SHA-256 hash (`sha256:HEX`) or a reference to either; its owner's name and
    scopes."""

    key: str = attrs.field(repr=masked)
    name: str = "api_key"
    scopes: tuple[Scope, ...] = ALL_SCOPES


@attrs.frozen(kw_only=True)
class ApiKey:
    header: str = "x-api-key"
    keys: tuple[str | Key, ...] = attrs.field(default=(), repr=masked)

    def __attrs_post_init__(self) -> None:
        if not HEADER_NAME.fullmatch(self.header):
            raise ValueError(f"auth.api_key.header is {self.header!r}, which is no header's name")
        for key in self.all_keys:
            _check_secret(key.key, "key", "auth.api_key.keys")

    @property
    def all_keys(self) -> Sequence[Key]:
        """The keys; one that is only text may do everything."""
        return [Key(key=key) if isinstance(key, str) else key for key in self.keys]


@attrs.frozen(kw_only=True)
class User:
    """A user of HTTP Basic authentication; the password as in `Key`."""

    name: str
    password: str = attrs.field(repr=masked)
    scopes: tuple[Scope, ...] = ALL_SCOPES

    def __attrs_post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(
                f"auth.basic.users has the name {self.name!r}: it must not be empty or have a colon"
            )
        _check_secret(self.password, "password", "auth.basic.users")


@attrs.frozen(kw_only=True)
class Basic:
    users: tuple[User, ...] = ()


@attrs.frozen(kw_only=True)
class Jwt:
    """Access tokens of an issuer: for one of the audiences, or of one of the clients if they name
    no audience, as Amazon Cognito's."""

    issuer: str = ""
    jwks_url: str = ""
    audiences: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"],
        ...,
    ] = ("RS256", "ES256")
    leeway_s: int = attrs.field(
        default=30, validator=[attrs.validators.ge(0), attrs.validators.le(300)]
    )
    scopes: tuple[Scope, ...] = ()

    @property
    def keys_url(self) -> str:
        """Where the issuer's public keys are."""
        return self.jwks_url or f"{self.issuer.rstrip('/')}/.well-known/jwks.json"

    def check(self) -> None:
        """Raises ValueError: something is missing or unsafe."""
        if not is_safe_url(self.keys_url):
            raise ValueError(
                "auth.methods has jwt, so auth.jwt.issuer (or auth.jwt.jwks_url) must be like "
                f"https://issuer.example, and is {self.jwks_url or self.issuer!r}"
            )
        if not self.issuer:
            raise ValueError("auth.methods has jwt, so auth.jwt.issuer must be the tokens' iss")
        if not (self.audiences or self.clients) or "" in (*self.audiences, *self.clients):
            raise ValueError(
                "auth.methods has jwt, so auth.jwt.audiences or auth.jwt.clients must name whose "
                "tokens are accepted: an issuer has tokens for other services, too"
            )
        if not self.algorithms:
            raise ValueError("auth.jwt.algorithms is empty, so no token would be accepted")


@attrs.frozen(kw_only=True)
class Gateway:
    """What is in front of the service authenticates senders; `proof` is how the service knows."""

    proof: Literal["alb", "lambda", "network"] | None = None
    alb_arn: str = ""
    public_keys_url: str = ""
    scopes: tuple[Scope, ...] = ALL_SCOPES

    @property
    def keys_url(self) -> str:
        """Where the load balancer's public keys are, by the region in its ARN.

        Elastic Load Balancing, Application Load Balancers, "Authenticate users", "User claims
        encoding and signature verification"; AWS GovCloud has addresses of its own.
        """
        region = self.alb_arn.split(":")[3]
        return self.public_keys_url or f"https://public-keys.auth.elb.{region}.amazonaws.com"

    def check(self) -> None:
        """Raises ValueError: something is missing or unsafe."""
        if self.proof is None:
            raise ValueError(
                "auth.methods has gateway, so auth.gateway.proof must be alb, lambda, or network"
            )
        if self.proof != "alb":
            return
        if not _ALB.fullmatch(self.alb_arn):
            raise ValueError(
                f"auth.gateway.alb_arn is {self.alb_arn!r}: it must be the ARN of the Application "
                "Load Balancer that signs (arn:aws:elasticloadbalancing:REGION:ACCOUNT:"
                "loadbalancer/app/NAME/ID)"
            )
        if not is_safe_url(self.keys_url):
            raise ValueError(
                f"auth.gateway.public_keys_url is {self.public_keys_url!r}: it must be like "
                "https://keys.example"
            )


@attrs.frozen(kw_only=True)
class Auth:
    methods: tuple[Literal["api_key", "basic", "jwt", "gateway"], ...] = ()
    allow_open: bool = False
    api_key: ApiKey = ApiKey()
    basic: Basic = Basic()
    jwt: Jwt = Jwt()
    gateway: Gateway = Gateway()

    def __attrs_post_init__(self) -> None:
        if "api_key" in self.methods and not self.api_key.keys:
            raise ValueError("auth.methods has api_key, so auth.api_key.keys needs a key")
        if "basic" in self.methods and not self.basic.users:
            raise ValueError("auth.methods has basic, so auth.basic.users needs a user")
        if "jwt" in self.methods:
            self.jwt.check()
        if "gateway" in self.methods:
            self.gateway.check()

    @property
    def secrets(self) -> Sequence[str]:
        """What may be references to secrets: the keys and passwords."""
        keys = [key.key for key in self.api_key.all_keys]
        return [*keys, *(user.password for user in self.basic.users)]
