"""Models of the settings: each section with its keys, defaults and validation.

Each key is documented in `config/default.toml`.
"""

import re
from typing import Any, Literal

import attrs
import structlog

from orchestrator.core.events.toolkit import APPLICATION_PLANE
from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.core.urls import parse_origin
from orchestrator.settings.auth import Auth
from orchestrator.settings.validation import (
    HEADER_NAME,
    NAMELESS,
    is_plain_url,
    masked,
    read_web_address,
)

log = structlog.get_logger("orchestrator.settings")


_STATE_MACHINE = re.compile(r"arn:[^:]+:states:[^:]*:[^:]*:stateMachine:[^:]+(:[^:]+)?")
#: A path with one spelling only (nothing to decode or normalize), safe in HTML and headers.
PLAIN_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
#: Of a metric's namespace, or nothing (CloudWatch API reference, PutMetricData); not AWS's own.
_NAMESPACE = re.compile(r"(?!AWS/)[A-Za-z0-9._/#: -]{0,255}")
#: The longest duration, 100 years: the time that lies so far ahead is still a date.
_LONGEST_DAYS = 36_525
_LONGEST_S = _LONGEST_DAYS * 86_400
#: Neither empty nor with white space or control characters.
_NAME = re.compile(r"[^\s\x00-\x1f\x7f]+")
#: A host, with a port perhaps (RFC 9110, section 7.2): no scheme, user, path or query.
_HOST = re.compile(r"[^\s\x00-\x1f\x7f/@?#]+")


def _positive(default: int) -> Any:
    return attrs.field(default=default, validator=attrs.validators.gt(0))


def _duration(default: float, *, least: float | None = None, longest: float = _LONGEST_S) -> Any:
    """Seconds (days, if `longest` is in days) that are at least `least`; more than 0 if None."""
    lower = attrs.validators.gt(0.0) if least is None else attrs.validators.ge(least)
    return attrs.field(default=default, validator=[lower, attrs.validators.le(longest)])


def _refuse_nameless(**names: str) -> None:
    """Raises ValueError: a setting, by its name with its section's, is no name."""
    for setting, name in names.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{setting.replace('__', '.')} is {name!r}: it must have characters, and no white "
                "space among them"
            )


@attrs.frozen(kw_only=True)
class Http:
    host: str = "127.0.0.1"
    port: int = attrs.field(
        default=8080, validator=[attrs.validators.ge(0), attrs.validators.le(65535)]
    )
    base_path: str = ""
    event_paths: tuple[str, ...] = ()
    max_body_bytes: int = _positive(1_048_576)
    max_concurrency: int = _positive(200)
    sender_share: float = attrs.field(
        default=0.75, validator=[attrs.validators.gt(0), attrs.validators.le(1)]
    )
    max_connections: int = _positive(512)
    receive_timeout_s: float = _duration(10.0)
    idle_timeout_s: float = _duration(75.0)
    allowed_hosts: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        _refuse_nameless(http__host=self.host)
        if self.base_path and not PLAIN_PATH.fullmatch(self.base_path):
            raise ValueError(
                f"http.base_path is {self.base_path!r}: it must be empty or like /orchestrator/v1, "
                "beginning with a slash and ending without one, of letters, digits and -._~"
            )
        for path in self.event_paths:
            if not PLAIN_PATH.fullmatch(path):
                raise ValueError(
                    f"http.event_paths has {path!r}: each must be like /event-bridge/events, "
                    "beginning with a slash and ending without one, of letters, digits and -._~"
                )
            if self.event_paths.count(path) > 1:
                raise ValueError(f"http.event_paths has {path!r} twice")
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"http.allowed_hosts has {host!r}: each must be like api.example or "
                    "localhost:8080, as requests have it in their Host header"
                )


@attrs.frozen(kw_only=True)
class Intake:
    mode: Literal["inline", "queue"] = "inline"
    deadline_s: float = _duration(4.0)
    queue_url: str | None = None
    visibility_s: float = attrs.field(
        default=60.0, validator=[attrs.validators.ge(1), attrs.validators.le(43_200)]
    )
    concurrency: int = _positive(10)

    def __attrs_post_init__(self) -> None:
        if self.mode == "queue" and not self.queue_url:
            raise ValueError("intake.mode is queue, so intake.queue_url needs the URL of a queue")

    @property
    def queue_name(self) -> str:
        """The last part of the queue's URL; empty without a queue."""
        return (self.queue_url or "").rpartition("/")[2]


@attrs.frozen(kw_only=True)
class Events:
    aliases: dict[str, str] = attrs.field(factory=dict)
    bus: str | None = None
    region: str | None = None
    source: str = "saas.orchestrator"
    sbt_source: str = APPLICATION_PLANE
    dedupe_window_s: float = _duration(90_000.0)
    id_headers: tuple[str, ...] = ("Idempotency-Key", "webhook-id")

    def __attrs_post_init__(self) -> None:
        _refuse_nameless(events__source=self.source, events__sbt_source=self.sbt_source)
        for name in self.id_headers:
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(f"events.id_headers has {name!r}, which is not a header name")


@attrs.frozen(kw_only=True)
class LedgerSettings:
    backend: Literal["dynamodb", "memory"] = "dynamodb"
    table: str = "orchestrator-ledger"
    lease_s: float = _duration(60.0, least=5)
    retention_days: float = _duration(90.0, longest=_LONGEST_DAYS)

    def __attrs_post_init__(self) -> None:
        _refuse_nameless(ledger__table=self.table)


@attrs.frozen(kw_only=True)
class Operations:
    deadline_s: float = _duration(7200.0)
    reconcile_every_s: float = _duration(60.0, least=0)
    stop_overdue: bool = True
    clean_up_unknown: bool = False


@attrs.frozen(kw_only=True)
class Callback:
    url: str | None = None
    after: Literal["provisioning", "deployment"] = "deployment"
    timeout_s: float = attrs.field(
        default=3.0, validator=[attrs.validators.gt(0), attrs.validators.le(30)]
    )
    allowed_hosts: tuple[str, ...] = ()
    refusals: bool = True

    def __attrs_post_init__(self) -> None:
        for entry in self.allowed_hosts:
            try:
                parse_origin(entry)
            except ValueError as error:
                raise ValueError(f"callback.allowed_hosts: {error}") from None
        if self.url is None:
            return
        url = read_web_address(self.url)
        if url is None or url.user or url.password:
            raise ValueError(
                "callback.url must be like https://control-plane.example/webhook, without user and "
                "password, since reports are signed"
            )


@attrs.frozen(kw_only=True)
class Runs:
    max_attempts: int = _positive(5)
    max_takeovers: int = _positive(20)


@attrs.frozen(kw_only=True)
class Tiers:
    backend: Literal["dynamodb", "static"] = "dynamodb"
    table: str = "tier-details"
    cache_s: float = _duration(60.0, least=0)
    static: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        _refuse_nameless(tiers__table=self.table)


@attrs.frozen(kw_only=True)
class Jenkins:
    url: str | None = None
    user: str = ""
    token: str = attrs.field(default="", repr=masked)
    unstable_is_success: bool = False
    connect_timeout_s: float = _duration(1.0)
    timeout_s: float = _duration(3.0)

    def __attrs_post_init__(self) -> None:
        if self.url is None:
            return
        if not is_plain_url(self.url):
            raise ValueError(
                "builders.jenkins.url must be like https://jenkins.example/, without user and "
                "password: set builders.jenkins.user and builders.jenkins.token"
            )
        if NAMELESS.fullmatch(self.token):
            raise ValueError("builders.jenkins.token refers to no name: write it as ssm:NAME")
        if not self.user or ":" in self.user or not self.token:
            raise ValueError(
                "builders.jenkins.url is set, so builders.jenkins.user (without a colon) and "
                "builders.jenkins.token are required"
            )


@attrs.frozen(kw_only=True)
class StepFunctions:
    state_machines: dict[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name, arn in self.state_machines.items():
            if not _STATE_MACHINE.fullmatch(arn):
                raise ValueError(
                    f"builders.step_functions.state_machines: {name} is {arn!r}, which is not the "
                    "ARN of a state machine (arn:aws:states:REGION:ACCOUNT:stateMachine:NAME)"
                )


@attrs.frozen(kw_only=True)
class Builders:
    default: str = "CODE_BUILD"
    dry_run: bool = False
    jenkins: Jenkins = Jenkins()
    step_functions: StepFunctions = StepFunctions()


#: Valid in both stores; Parameter Store reserves names that begin with aws or ssm.
_PREFIX_RULE = re.compile(r"(?!/(aws|ssm))(/[A-Za-z0-9_.-]{1,60}){1,5}", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Secrets:
    store: Literal["secretsmanager", "ssm"] | None = None
    prefix: str = "/orchestrator"

    def __attrs_post_init__(self) -> None:
        if not _PREFIX_RULE.fullmatch(self.prefix):
            raise ValueError(
                f"secrets.prefix is {self.prefix!r}: it must be like /orchestrator/builds, with at "
                "most 5 parts, and not begin with /aws or /ssm"
            )


@attrs.frozen(kw_only=True)
class Aws:
    dynamodb_region: str | None = None
    connect_timeout_s: float = _duration(1.0)
    read_timeout_s: float = _duration(2.0)
    transport: Literal["sdk", "lean"] = "sdk"


@attrs.frozen(kw_only=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    redact: tuple[str, ...] = SECRET_NAMES


@attrs.frozen(kw_only=True)
class Telemetry:
    traces: bool = False
    emf_namespace: str = attrs.field(
        default="saas-orchestrator", validator=attrs.validators.matches_re(_NAMESPACE)
    )


@attrs.frozen(kw_only=True)
class Settings:
    environment: Literal["local", "production"] = "local"
    extension: str | None = None
    http: Http = Http()
    events: Events = Events()
    intake: Intake = Intake()
    ledger: LedgerSettings = LedgerSettings()
    operations: Operations = Operations()
    callback: Callback = Callback()
    runs: Runs = Runs()
    tiers: Tiers = Tiers()
    builders: Builders = Builders()
    secrets: Secrets = Secrets()
    aws: Aws = Aws()
    auth: Auth = attrs.field(factory=Auth)
    log: Log = Log()
    telemetry: Telemetry = Telemetry()

    def __attrs_post_init__(self) -> None:
        if self.environment == "production" and not (self.auth.methods or self.auth.allow_open):
            raise ValueError(
                "environment is production and the service is open: set auth.methods, or "
                "auth.allow_open = true if a gateway in front of the service authenticates senders"
            )
        if self.environment == "production" and self.ledger.backend == "memory":
            raise ValueError(
                "environment is production and ledger.backend is memory, which loses all tenants "
                "when the process ends: set it to dynamodb"
            )

    @property
    def callback_trouble(self) -> str | None:
        """Why no success would ever be reported; None if reports are sent or not configured."""
        is_lost = self.callback.url and self.callback.after == "deployment" and not self.events.bus
        return (
            "callback.after is deployment and events.bus is empty: no TENANT_DEPLOYMENT follows a "
            "provisioning, so its success is never reported. Set events.bus, or callback.after"
            if is_lost
            else None
        )
