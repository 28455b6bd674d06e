"""Settings: defaults, under a file, under the environment."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import Settings, load_settings
from orchestrator.settings import (
    Jenkins,
    child_environment,
)
from tests.unit.settings.loading import load, refusal


def test_the_defaults_need_nothing() -> None:
    """Without a file and without variables there are the documented defaults."""
    settings = load()
    assert settings == Settings()
    assert settings.environment == "local"
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)
    assert settings.http.max_body_bytes == 1048576
    assert settings.events.aliases == {}
    assert settings.events.dedupe_window_s == 25 * 3600
    assert settings.tiers.backend == "dynamodb"
    assert settings.tiers.table == "tier-details"
    assert settings.tiers.cache_s == 60
    assert settings.builders.default == "CODE_BUILD"
    assert (settings.log.level, settings.log.format) == ("info", "json")


def test_a_file_lies_over_the_defaults(write: Any) -> None:
    """What the file has counts, the rest is as it was, in the same section too."""
    settings = load(
        write(
            """
            [http]
            port = 9000
            [events.aliases]
            "Tenant Ordered" = "ORDER"
            [tiers]
            backend = "static"
            [tiers.static.BASIC]
            jobIdentifier = "basic-tenant"
            ACCESS_TOKEN_EXPIRATION = 3600
            """
        )
    )
    assert settings.http == attrs.evolve(Settings().http, port=9000)
    assert settings.events.aliases == {"Tenant Ordered": "ORDER"}
    assert settings.tiers.static == {
        "BASIC": {"jobIdentifier": "basic-tenant", "ACCESS_TOKEN_EXPIRATION": 3600}
    }
    assert settings.log == Settings().log


def test_the_environment_lies_over_the_file(write: Any) -> None:
    """A variable outranks the file's key and leaves its neighbours alone."""
    path = write('[http]\nport = 9000\nhost = "0.0.0.0"\n')
    settings = load(path, ORCHESTRATOR_HTTP__PORT="9001", ORCHESTRATOR_LOG__LEVEL="debug")
    assert (settings.http.port, settings.http.host) == (9001, "0.0.0.0")  # noqa: S104
    assert settings.log.level == "debug"


def test_a_file_may_be_named_by_a_variable(write: Any, tmp_path: Path) -> None:
    """ORCHESTRATOR_CONFIG names the file; a path that is given outranks it."""
    path = write("[http]\nport = 9000\n")
    other = tmp_path / "other.toml"
    other.write_text("[http]\nport = 9001\n")
    assert load(ORCHESTRATOR_CONFIG=str(path)).http.port == 9000
    assert load(other, ORCHESTRATOR_CONFIG=str(path)).http.port == 9001
    assert load(ORCHESTRATOR_CONFIG="").http.port == 8080


def test_the_processs_environment_is_read(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ` the real environment counts."""
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(write("[http]\nport = 9000\n")))
    monkeypatch.setenv("ORCHESTRATOR_RUNS__MAX_ATTEMPTS", "2")
    settings = load_settings()
    assert (settings.http.port, settings.runs.max_attempts) == (9000, 2)


def test_nothing_is_picked_up_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that happens to be there is not read."""
    for name in ("orchestrator.toml", "default.toml", "local.toml"):
        (tmp_path / name).write_text("[http]\nport = 9000\n")
    monkeypatch.chdir(tmp_path)
    assert load() == Settings()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("default.toml", {}),
        ("local.toml", {"format": "console"}),
    ],
)
def test_a_shipped_file_is_known_by_its_name(
    name: str, changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the package are found from any directory."""
    monkeypatch.chdir(tmp_path)
    assert load(name).log == attrs.evolve(Settings().log, **changed)


def test_the_shipped_default_file_holds_the_defaults() -> None:
    """What `default.toml` documents is what the classes say."""
    assert load("default.toml") == Settings()


def test_the_shipped_production_file_refuses_an_open_service() -> None:
    """The image's file serves everywhere and starts only with an answer about access."""
    assert "auth" in refusal("production.toml")
    settings = load("production.toml", ORCHESTRATOR_AUTH__ALLOW_OPEN="true")
    assert settings.environment == "production"
    assert settings.http.host == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("variable", "text", "read", "value"),
    [
        ("HTTP__PORT", "9000", lambda s: s.http.port, 9000),
        ("HTTP__HOST", "::1", lambda s: s.http.host, "::1"),
        ("TIERS__CACHE_S", "0", lambda s: s.tiers.cache_s, 0.0),
        ("TIERS__CACHE_S", "1.5", lambda s: s.tiers.cache_s, 1.5),
        ("TIERS__TABLE", "123", lambda s: s.tiers.table, "123"),
        ("AUTH__ALLOW_OPEN", "true", lambda s: s.auth.allow_open, True),
        ("LOG__LEVEL", "warning", lambda s: s.log.level, "warning"),
        ("AWS__DYNAMODB_REGION", "eu-west-1", lambda s: s.aws.dynamodb_region, "eu-west-1"),
        ("EVENTS__ALIASES", '{"A b": "C"}', lambda s: s.events.aliases, {"A b": "C"}),
        (
            "TIERS__STATIC",
            '{"BASIC": {"jobIdentifier": "b", "n": 1}}',
            lambda s: s.tiers.static,
            {"BASIC": {"jobIdentifier": "b", "n": 1}},
        ),
        ("LOG__REDACT", '["secret", "pin"]', lambda s: s.log.redact, ("secret", "pin")),
        ("log__level", "error", lambda s: s.log.level, "error"),
    ],
)
def test_a_variable_is_read_as_its_settings_kind(
    variable: str, text: str, read: Any, value: object
) -> None:
    """Numbers, switches and text as they are, lists and maps as JSON, in any case."""
    assert read(load(**{f"ORCHESTRATOR_{variable}": text})) == value


@pytest.mark.parametrize(
    "variable",
    [
        "ORCHESTRATOR_RUN_ID",
        "ORCHESTRATOR_PORT",
        "ORCHESTRATOR_SERVICE_HOST",
        "ORCHESTRATOR_HTTP_PORT",
        "ORCHESTRATOR",
        "OTHER__HTTP__PORT",
        "HTTP__PORT",
    ],
)
def test_other_variables_are_not_settings(variable: str) -> None:
    """A name without two underscores, or of another program, means nothing here."""
    assert load(**{variable: "tcp://10.0.0.1:80"}) == Settings()


def test_secrets_do_not_show_in_the_settings() -> None:
    """`repr` masks the keys."""
    settings = load_settings(
        environ={
            "ORCHESTRATOR_AUTH__METHODS": '["api_key"]',
            "ORCHESTRATOR_AUTH__API_KEY__KEYS": '["hunter2"]',
        }
    )
    assert settings.auth.api_key.keys == ("hunter2",)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("TIER_DETAILS_TABLE", lambda s: s.tiers.table),
        ("EVENT_BUS_NAME", lambda s: s.events.bus),
        ("EVENT_BUS_AWS_REGION", lambda s: s.events.region),
        ("DYNAMO_DB_REGION", lambda s: s.aws.dynamodb_region),
    ],
)
def test_the_ancestors_variables_are_understood(variable: str, read: Any) -> None:
    """What the ancestor's deployments set works here as well."""
    assert read(load(**{variable: "theirs"})) == "theirs"


def test_our_own_variable_outranks_the_ancestors() -> None:
    """Where both are set, ours counts."""
    settings = load(TIER_DETAILS_TABLE="theirs", ORCHESTRATOR_TIERS__TABLE="ours")
    assert settings.tiers.table == "ours"


def test_the_usual_log_level_variable_is_understood() -> None:
    """LOG_LEVEL works in capitals too, below our own variable."""
    assert load(LOG_LEVEL="DEBUG").log.level == "debug"
    assert load(LOG_LEVEL="DEBUG", ORCHESTRATOR_LOG__LEVEL="error").log.level == "error"


def test_the_ancestors_data_store_is_ignored() -> None:
    """DATA_STORE_TABLE is accepted and changes nothing."""
    assert load(DATA_STORE_TABLE="store") == Settings()


def test_a_setting_with_one_underscore_is_named_in_the_log() -> None:
    """It may be another program's variable, and a service that isn't in production starts open."""
    with capture_logs() as logs:
        loaded = load(
            ORCHESTRATOR_ENVIRONMENT="production",
            ORCHESTRATOR_BUILDERS_JENKINS_URL="https://jenkins.example",
            ORCHESTRATOR_HEADER="x-api-key:key",
            ORCHESTRATOR_OTHER="1",
        )
    assert loaded == Settings()
    assert [(line["log_level"], line["variable"], line["setting"]) for line in logs] == [
        (
            "warning",
            "ORCHESTRATOR_BUILDERS_JENKINS_URL",
            "ORCHESTRATOR_BUILDERS__JENKINS__URL",
        ),
        ("warning", "ORCHESTRATOR_ENVIRONMENT", "ORCHESTRATOR__ENVIRONMENT"),
    ]


def test_settings_are_frozen() -> None:
    """What was loaded can't change under a running service."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load().http.port = 1  # type: ignore[misc]


def test_a_shipped_name_is_not_picked_up_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who means the file beside them writes ./production.toml."""
    (tmp_path / "production.toml").write_text('environment = "local"\n')
    monkeypatch.chdir(tmp_path)
    assert "environment is production" in refusal("production.toml")
    assert load("./production.toml").environment == "local"


def test_a_jenkins_token_does_not_show() -> None:
    """The token is masked wherever settings are printed."""
    assert "hush" not in repr(Jenkins(url="https://j", user="u", token="hush"))


def test_an_empty_variable_of_an_optional_setting_is_none() -> None:
    """A template that leaves a variable empty means that there is no value."""
    names = ("CALLBACK__URL", "BUILDERS__JENKINS__URL", "SECRETS__STORE", "INTAKE__QUEUE_URL")
    empty = dict.fromkeys([f"ORCHESTRATOR_{name}" for name in names], "")
    more = {"ORCHESTRATOR__EXTENSION": "", "DYNAMO_DB_REGION": "", "EVENT_BUS_AWS_REGION": ""}
    assert load(**empty, **more) == load()
    assert "http.port" in refusal(ORCHESTRATOR_HTTP__PORT="")


def test_an_empty_text_of_an_optional_setting_is_none(write: Any) -> None:
    """A file says "no callback" as an environment does, since TOML has no null."""
    text = """
        extension = ""
        callback.url = ""
        events.bus = ""
        events.region = ""
        intake.queue_url = ""
        aws.dynamodb_region = ""
        builders.jenkins.url = ""
        secrets.store = ""
        auth.gateway.proof = ""
    """
    assert load(write(text)) == load()


@pytest.mark.parametrize("written", [b"\xef\xbb\xbf", b"\r\n"])
def test_a_file_is_utf_8_whoever_wrote_it(write: Any, written: bytes) -> None:
    """A byte order mark and CRLF of an editor for Windows are skipped."""
    path = write(
        written + 'environment = "local"\r\n[tiers.static."ÄRA"]\r\nregion = "ö"\r\n'.encode()
    )
    assert load(path).tiers.static == {"ÄRA": {"region": "ö"}}


def test_a_file_is_utf_8_in_any_locale(write: Any) -> None:
    """TOML is UTF-8 (toml.io, v1.0.0), also where the locale has another encoding."""
    path = write('[tiers.static."ÄRA"]\nregion = "ö"\n')
    program = (
        "import sys; from orchestrator import load_settings; load_settings(sys.argv[1], environ={})"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", program, str(path)], env=plain, check=True)  # noqa: S603


def test_the_ancestors_level_is_understood() -> None:
    """Its level `warn` means `warning`."""
    assert load(LOG_LEVEL="warn").log.level == load(LOG_LEVEL="WARNING").log.level == "warning"


def test_a_child_is_led_to_one_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another emulator's endpoints for single services would outrank the one for all."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:4566")
    ours = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:2"}
    child = child_environment(ours)
    assert {name: url for name, url in child.items() if name.startswith("AWS_END")} == ours
    assert "AWS_ENDPOINT_URL_DYNAMODB" in child_environment({"COLUMNS": "80"})


@pytest.mark.parametrize("base_path", ["", "/orchestrator", "/saas/v1.2", "/a-b/c_d/~e"])
def test_a_base_path_is_a_plain_path(base_path: str) -> None:
    """Empty, or segments of characters that nothing escapes."""
    assert load(ORCHESTRATOR_HTTP__BASE_PATH=base_path).http.base_path == base_path
