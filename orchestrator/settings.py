"""The settings: defaults, then a TOML file, then the environment. The only reader of os.environ.

Every key is documented in `config/default.toml`. A wrong key or value is a
`SettingsError`, one sentence that names it and what is allowed.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import msgspec
import structlog
from yarl import URL

from orchestrator.core.json_text import parse_json
from orchestrator.core.secrets import SECRET_NAMES
from orchestrator.core.toolkit import APPLICATION_PLANE

_PREFIX = "ORCHESTRATOR_"
_CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"

#: What the ancestor's deployments set.
_ALIASES: Mapping[str, str] = {
    "TIER_DETAILS_TABLE": "ORCHESTRATOR_TIERS__TABLE",
    "EVENT_BUS_NAME": "ORCHESTRATOR_EVENTS__BUS",
    "EVENT_BUS_AWS_REGION": "ORCHESTRATOR_EVENTS__REGION",
    "DYNAMO_DB_REGION": "ORCHESTRATOR_AWS__DYNAMODB_REGION",
}

log = structlog.get_logger("orchestrator.settings")


class SettingsError(Exception):
    """Settings that can't be used."""


def _masked(value: object) -> str:
    return "***" if value else repr(value)


_STATE_MACHINE = re.compile(r"arn:[^:]+:states:[^:]*:[^:]*:stateMachine:[^:]+(:[^:]+)?")

#: A path that is the same however it is written, and harmless in HTML and headers.
PLAIN_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
#: RFC 9110, section 5.6.2.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_FINITE = attrs.validators.lt(float("inf"))


def _positive(default: float) -> Any:
    return attrs.field(default=default, validator=[attrs.validators.gt(0), _FINITE])


@attrs.frozen(kw_only=True)
class Http:
    host: str = "127.0.0.1"
    port: int = attrs.field(
        default=8080, validator=[attrs.validators.ge(0), attrs.validators.le(65535)]
    )
    base_path: str = ""
    max_body_bytes: int = _positive(1_048_576)
    max_concurrency: int = _positive(200)

    def __attrs_post_init__(self) -> None:
        if self.base_path and not PLAIN_PATH.fullmatch(self.base_path):
            raise ValueError(
                f"http.base_path is {self.base_path!r}: it must be empty or like /orchestrator/v1, "
                "beginning with a slash and ending without one, of letters, digits and -._~"
            )


@attrs.frozen(kw_only=True)
class Intake:
    mode: Literal["inline", "queue"] = "inline"
    deadline_s: float = _positive(4.0)
    queue_url: str | None = None
    visibility_s: float = attrs.field(
        default=60.0, validator=[attrs.validators.ge(1), attrs.validators.le(43_200)]
    )
    concurrency: int = _positive(10)

    def __attrs_post_init__(self) -> None:
        if self.mode == "queue" and not self.queue_url:
            raise ValueError("intake.mode is queue, so intake.queue_url needs the URL of a queue")


@attrs.frozen(kw_only=True)
class Events:
    aliases: dict[str, str] = attrs.field(factory=dict)
    bus: str | None = None
    region: str | None = None
    source: str = "saas.orchestrator"
    sbt_source: str = APPLICATION_PLANE
    dedupe_window_s: float = _positive(90_000.0)
    id_headers: tuple[str, ...] = ("Idempotency-Key", "webhook-id")

    def __attrs_post_init__(self) -> None:
        for name in self.id_headers:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"events.id_headers has {name!r}, which is no name of a header")


@attrs.frozen(kw_only=True)
class LedgerSettings:
    backend: Literal["dynamodb", "memory"] = "dynamodb"
    table: str = "orchestrator-ledger"
    lease_s: float = attrs.field(default=60.0, validator=[attrs.validators.ge(5), _FINITE])
    retention_days: float = _positive(90.0)


@attrs.frozen(kw_only=True)
class Operations:
    deadline_s: float = _positive(7200.0)
    reconcile_every_s: float = attrs.field(
        default=60.0, validator=[attrs.validators.ge(0), _FINITE]
    )
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
        if self.url is None:
            return
        url = _read_web_address(self.url)
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
    cache_s: float = attrs.field(default=60.0, validator=[attrs.validators.ge(0), _FINITE])
    static: dict[str, dict[str, Any]] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Jenkins:
    url: str | None = None
    user: str = ""
    token: str = attrs.field(default="", repr=_masked)
    unstable_is_success: bool = False
    connect_timeout_s: float = _positive(1.0)
    timeout_s: float = _positive(3.0)

    def __attrs_post_init__(self) -> None:
        if self.url is None:
            return
        if not _is_plain_url(self.url):
            raise ValueError(
                "builders.jenkins.url must be like https://jenkins.example/, without user and "
                "password, which have settings of their own"
            )
        if _NAMELESS.fullmatch(self.token):
            raise ValueError("builders.jenkins.token refers to no name: write it as ssm:NAME")
        if not self.user or ":" in self.user or not self.token:
            raise ValueError(
                "builders.jenkins.url is set, so builders.jenkins.user (without a colon) and "
                "builders.jenkins.token are needed"
            )


def _is_plain_url(text: str) -> bool:
    """The address of a web server, and nothing besides."""
    url = _read_web_address(text)
    return url is not None and not (url.user or url.password or url.query_string or url.fragment)


def _read_web_address(text: str) -> URL | None:
    try:
        url = URL(text)
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host and " " not in text else None


@attrs.frozen(kw_only=True)
class StepFunctions:
    state_machines: dict[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name, arn in self.state_machines.items():
            if not _STATE_MACHINE.fullmatch(arn):
                raise ValueError(
                    f"builders.step_functions.state_machines: {name} is {arn!r}, which is no ARN "
                    "of a state machine (arn:aws:states:REGION:ACCOUNT:stateMachine:NAME)"
                )


@attrs.frozen(kw_only=True)
class Builders:
    default: str = "CODE_BUILD"
    dry_run: bool = False
    jenkins: Jenkins = Jenkins()
    step_functions: StepFunctions = StepFunctions()


#: What both stores take: Parameter Store keeps names that begin with aws or ssm to itself.
_PREFIX_RULE = re.compile(r"(?!/(aws|ssm))(/[A-Za-z0-9_.-]{1,60}){1,5}", re.IGNORECASE)
_NAMELESS = re.compile(r"(secretsmanager|ssm):\s*")


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
    connect_timeout_s: float = _positive(1.0)
    read_timeout_s: float = _positive(2.0)


@attrs.frozen(kw_only=True)
class ApiKey:
    header: str = "x-api-key"
    keys: tuple[str, ...] = attrs.field(default=(), repr=_masked)

    def __attrs_post_init__(self) -> None:
        if any(_NAMELESS.fullmatch(key) for key in self.keys):
            raise ValueError("auth.api_key.keys has a reference without a name, such as ssm:NAME")
        if not all(key.strip() for key in self.keys):
            raise ValueError(
                "auth.api_key.keys has a key that is empty or blank, which would let in whoever "
                "sends none: leave it out"
            )


@attrs.frozen(kw_only=True)
class Auth:
    methods: tuple[Literal["api_key"], ...] = ()
    allow_open: bool = False
    api_key: ApiKey = ApiKey()

    def __attrs_post_init__(self) -> None:
        if "api_key" in self.methods and not self.api_key.keys:
            raise ValueError("auth.methods has api_key, so auth.api_key.keys needs a key")


@attrs.frozen(kw_only=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    redact: tuple[str, ...] = SECRET_NAMES


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
    auth: Auth = Auth()
    log: Log = Log()

    def __attrs_post_init__(self) -> None:
        if self.environment == "production" and not (self.auth.methods or self.auth.allow_open):
            raise ValueError(
                "environment is production and the service is open: set auth.methods, or "
                "auth.allow_open = true where something before it lets only the right ones in"
            )
        if self.environment == "production" and self.ledger.backend == "memory":
            raise ValueError(
                "environment is production and ledger.backend is memory, which forgets every "
                "tenant when the process ends: set it to dynamodb"
            )

    @property
    def callback_trouble(self) -> str | None:
        """Why nobody would ever be told of a success; None: somebody is, or nobody shall be."""
        is_lost = self.callback.url and self.callback.after == "deployment" and not self.events.bus
        return (
            "callback.after is deployment and events.bus is empty: no TENANT_DEPLOYMENT follows a "
            "provisioning, so its success is never reported. Set events.bus, or callback.after"
            if is_lost
            else None
        )


def load_settings(
    config: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    ledger_backend: str | None = None,
) -> Settings:
    """The settings from a TOML file (None: the one in ORCHESTRATOR_CONFIG, or none at all).

    `config` may also be the name of a file that ships with the package: `local.toml`.
    `ledger_backend` is the one to have where neither file nor environment names one.

    Raises:
        SettingsError: the file can't be read, or a key or a value is wrong.
    """
    environ = os.environ if environ is None else environ
    chosen = config or environ.get(_CONFIG_VARIABLE)
    values = _read_file(chosen) if chosen else {}
    _refuse_unknown(values, Settings, "")
    if ledger_backend is not None:
        values.setdefault("ledger", {}).setdefault("backend", ledger_backend)
    for variable, text in sorted(_variables(environ).items()):
        _overlay(values, variable, text)
    return _settings(values)


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings; the ancestor's names count where ours are not set."""
    if "DATA_STORE_TABLE" in environ:
        log.info("DATA_STORE_TABLE is ignored: the ledger takes its place")
    aliased = {ours: environ[theirs] for theirs, ours in _ALIASES.items() if theirs in environ}
    if level := environ.get("LOG_LEVEL"):
        aliased["ORCHESTRATOR_LOG__LEVEL"] = {"warn": "warning"}.get(level.lower(), level.lower())
    own = {
        variable: text
        for variable, text in environ.items()
        if variable.startswith(_PREFIX) and "__" in variable
    }
    return {**aliased, **own}


def _read_file(path: str | Path) -> dict[str, Any]:
    found = _shipped(str(path)) or Path(path)
    try:
        return tomllib.loads(found.read_text())
    except OSError as error:
        raise SettingsError(f"The settings file {path} can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None


def _shipped(path: str) -> Path | None:
    """The file that ships with the package, if `path` is the bare name of one.

    It outranks one of that name in the working directory, from which nothing is picked up
    unasked: write `./local.toml` for that. In a checkout it lies beside the package.
    """
    package = Path(str(files("orchestrator")))
    places = (package / "config" / path, package.parent / "config" / path)
    is_bare = path == Path(path).name
    return next((place for place in places if is_bare and place.exists()), None)


def _refuse_unknown(values: Mapping[str, Any], section: type, path: str) -> None:
    known = _fields(section)
    for key, value in values.items():
        if key not in known:
            raise SettingsError(
                f"Unknown setting {path}{key}; here there is {', '.join(sorted(known))}."
            )
        if attrs.has(known[key]) and isinstance(value, dict):
            _refuse_unknown(value, known[key], f"{path}{key}.")


def _overlay(values: dict[str, Any], variable: str, text: str) -> None:
    """Put the variable ORCHESTRATOR_SECTION__KEY over `values`; lists and maps are JSON.

    A key without a section has nothing before its two underscores: ORCHESTRATOR__EXTENSION.
    """
    *sections, key = variable.removeprefix(_PREFIX).removeprefix("_").lower().split("__")
    kind: Any = Settings
    for name in (*sections, key):
        kind = _fields(kind).get(name) if attrs.has(kind) else None
        if kind is None:
            raise SettingsError(
                f"The variable {variable} names no setting: there is no {name!r} in it."
            )
    for name in sections:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise SettingsError(f"The setting {name} must be a table of keys and values.")
    if get_origin(kind) in (dict, list, tuple):
        values[key] = _parse(variable, text)
    else:
        # Nothing can't be written otherwise in an environment.
        values[key] = None if text == "" and type(None) in get_args(kind) else text


def _parse(variable: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        # Not the text itself: it may be a key.
        raise SettingsError(
            f'The variable {variable} must be JSON, such as ["one", "two"], and isn\'t.'
        ) from None


def _settings(values: dict[str, Any]) -> Settings:
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"Wrong setting: {error}{_allowed(str(error))}.") from None


def _allowed(message: str) -> str:
    """The values that the setting in msgspec's message may have, where they can be listed."""
    place = re.search(r"`\$\.([\w.]+)", message)
    kind: Any = Settings
    for name in place[1].split(".") if place else ():
        kind = _fields(kind).get(name) if attrs.has(kind) else None
    listed = next((k for k in (kind, *get_args(kind)) if get_origin(k) is Literal), None)
    return f"; allowed: {', '.join(map(repr, get_args(listed)))}" if listed else ""


def _fields(section: Any) -> dict[str, Any]:
    return {field.name: field.type for field in attrs.fields(section)}


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that we start: our own, with `extra` over it.

    Where `extra` says where AWS is, a service's own endpoint in ours, of another emulator, is out.
    What either one reaches without a proxy, the process does.
    """
    is_led = "AWS_ENDPOINT_URL" in extra
    own = {
        name: value
        for name, value in os.environ.items()
        if not (is_led and name.startswith("AWS_ENDPOINT_URL_"))
    }
    direct = ",".join(filter(None, [_direct(own), _direct(extra)]))
    return {**own, **extra, **({"NO_PROXY": direct, "no_proxy": direct} if direct else {})}


def _direct(environment: Mapping[str, str]) -> str | None:
    """NO_PROXY; of its two spellings the small one counts (urllib.request, getproxies)."""
    return environment.get("no_proxy", environment.get("NO_PROXY"))
