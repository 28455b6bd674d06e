"""Settings: defaults, under a file, under the environment; and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator import Settings, SettingsError, load_settings
from orchestrator.settings import (
    ApiKey,
    Callback,
    Jenkins,
    Secrets,
    StepFunctions,
    child_environment,
)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a settings file and give its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def load(config: Path | str | None = None, **environ: str) -> Settings:
    return load_settings(config, environ=environ)


def refusal(config: Path | str | None = None, **environ: str) -> str:
    """The refusal's sentence, which is one line."""
    with pytest.raises(SettingsError) as refused:
        load(config, **environ)
    sentence = str(refused.value)
    assert sentence.count("\n") == 0
    return sentence


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
    """A file that happens to lie about is not read."""
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


@pytest.mark.parametrize(
    ("text", "named", "allowed"),
    [
        ("[http]\nprot = 1\n", "http.prot", "port"),
        ("[htpp]\nport = 1\n", "htpp", "http"),
        ("port = 1\n", "port", "http"),
        ("[tiers]\nstatics = {}\n", "tiers.statics", "static"),
    ],
)
def test_an_unknown_key_is_named_with_what_there_is(
    write: Any, text: str, named: str, allowed: str
) -> None:
    """A mistyped key stops the start, with the keys that stand in its place."""
    sentence = refusal(write(text))
    assert f"Unknown setting {named};" in sentence
    assert allowed in sentence.partition(";")[2]


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [
        ("ORCHESTRATOR_HTTP__PROT", "'prot'"),
        ("ORCHESTRATOR_HTPP__PORT", "'htpp'"),
        ("ORCHESTRATOR_HTTP__PORT__X", "'x'"),
        ("ORCHESTRATOR_TIERS__STATIC__BASIC", "'basic'"),
        ("ORCHESTRATOR_HTTP__", "''"),
    ],
)
def test_an_unknown_variable_is_named(variable: str, wrong: str) -> None:
    """A variable that looks like a setting and is none stops the start."""
    sentence = refusal(**{variable: "1"})
    assert variable in sentence
    assert wrong in sentence


@pytest.mark.parametrize(
    ("variable", "text", "named"),
    [
        ("HTTP__PORT", "eighty", "http.port"),
        ("HTTP__PORT", "70000", "port"),
        ("HTTP__PORT", "-1", "port"),
        ("HTTP__MAX_BODY_BYTES", "0", "max_body_bytes"),
        ("RUNS__MAX_ATTEMPTS", "0", "max_attempts"),
        ("TIERS__CACHE_S", "-1", "cache_s"),
        ("TIERS__CACHE_S", "nan", "cache_s"),
        ("EVENTS__DEDUPE_WINDOW_S", "0", "dedupe_window_s"),
        ("EVENTS__ALIASES", "[]", "events.aliases"),
        ("EVENTS__ALIASES", '{"A": 1}', "events.aliases"),
        ("AUTH__ALLOW_OPEN", "maybe", "auth.allow_open"),
    ],
)
def test_a_wrong_value_is_named(variable: str, text: str, named: str) -> None:
    """The refusal names the setting whose value can't be used."""
    assert named in refusal(**{f"ORCHESTRATOR_{variable}": text})


@pytest.mark.parametrize(
    ("variable", "named", "allowed"),
    [
        ("LOG__LEVEL", "log.level", ["debug", "info", "warning", "error"]),
        ("LOG__FORMAT", "log.format", ["json", "console"]),
        ("TIERS__BACKEND", "tiers.backend", ["dynamodb", "static"]),
        ("_ENVIRONMENT", "environment", ["local", "production"]),
    ],
)
def test_a_wrong_choice_is_told_the_right_ones(
    variable: str, named: str, allowed: list[str]
) -> None:
    """Where only some values are allowed, the refusal lists them."""
    sentence = refusal(**{f"ORCHESTRATOR_{variable}": "loud"})
    assert named in sentence
    for value in allowed:
        assert repr(value) in sentence


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[http]\nport = "eighty"\n', "http.port"),
        ("[http]\nhost = 5\n", "http.host"),
        ("http = 5\n", "http"),
        ("[tiers.static]\nBASIC = 1\n", "tiers.static"),
    ],
)
def test_a_wrong_value_in_a_file_is_named(write: Any, text: str, named: str) -> None:
    """A value of another kind is refused with the path of its key."""
    assert f"$.{named}" in refusal(write(text))


def test_a_variable_that_must_be_json_says_so() -> None:
    """Broken JSON is refused with the variable's name, but not its text, which may be a key."""
    sentence = refusal(ORCHESTRATOR_AUTH__API_KEY__KEYS="hunter2")
    assert "ORCHESTRATOR_AUTH__API_KEY__KEYS is not JSON" in sentence
    assert "hunter2" not in sentence


def test_a_section_that_is_no_table_is_named(write: Any) -> None:
    """A file's number where a section belongs is refused, whatever the environment adds."""
    assert "http must be a table" in refusal(write("http = 3\n"), ORCHESTRATOR_HTTP__PORT="9000")


def test_a_path_is_never_taken_for_a_shipped_name(tmp_path: Path) -> None:
    """Only a bare name stands for a file of the package; a missing path is an error."""
    missing = tmp_path / "local.toml"
    assert str(missing) in refusal(missing)


@pytest.mark.parametrize("variable", ["TIERS__CACHE_S", "EVENTS__DEDUPE_WINDOW_S"])
def test_no_duration_is_endless(variable: str) -> None:
    """Infinity is no number of seconds to reckon with."""
    assert "must be <" in refusal(**{f"ORCHESTRATOR_{variable}": "inf"})


def test_production_does_not_start_open() -> None:
    """An open service is refused in production, unless that is said in so many words."""
    production = {"ORCHESTRATOR__ENVIRONMENT": "production"}
    assert "auth.methods" in refusal(**production)
    allowed = load_settings(environ={**production, "ORCHESTRATOR_AUTH__ALLOW_OPEN": "true"})
    assert allowed.environment == "production"


@pytest.mark.parametrize("blank", ["", " ", "\\n", "\\u00a0"])
def test_a_blank_api_key_is_refused(blank: str) -> None:
    """It would let in whoever sends none; the others aren't shown."""
    said = refusal(ORCHESTRATOR_AUTH__API_KEY__KEYS=f'["hunter2", "{blank}"]')
    assert "auth.api_key.keys has a key that is empty or blank" in said
    assert "hunter2" not in said


def test_an_api_key_is_needed_where_keys_are_asked_for() -> None:
    """A method without keys would let nobody in."""
    assert "auth.api_key.keys" in refusal(ORCHESTRATOR_AUTH__METHODS='["api_key"]')


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


@pytest.mark.parametrize("text", ["[http\n", "a = \n", b"a = \xff"])
def test_a_file_that_is_not_toml_is_named(write: Any, text: str | bytes) -> None:
    """Broken TOML is refused with the file's name."""
    path = write(text)
    assert f"The settings file {path} is not TOML" in refusal(path)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """A file that can't be read stops the start, whichever way it was named."""
    path = tmp_path / "missing.toml"
    assert f"The settings file {path} can't be read: No such file" in refusal(path)
    assert str(path) in refusal(ORCHESTRATOR_CONFIG=str(path))
    assert "can't be read" in refusal(tmp_path)


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


def test_settings_are_frozen() -> None:
    """What was loaded can't change under a running service."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load().http.port = 1  # type: ignore[misc]


def test_a_shipped_name_is_not_picked_up_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever means the file beside them writes ./production.toml."""
    (tmp_path / "production.toml").write_text('environment = "local"\n')
    monkeypatch.chdir(tmp_path)
    assert "environment is production" in refusal("production.toml")
    assert load("./production.toml").environment == "local"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (lambda: Jenkins(url="ftp://j", user="u", token="t"), "https://jenkins.example/"),
        (lambda: Jenkins(url="https://u:t@j", user="u", token="t"), "without user and password"),
        (lambda: Jenkins(url="http://[", user="u", token="t"), "https://jenkins.example/"),
        (lambda: Jenkins(url="https://j", token="t"), "builders.jenkins.user"),
        (lambda: Jenkins(url="https://j", user="a:b", token="t"), "without a colon"),
        (lambda: Jenkins(url="https://j", user="u"), "builders.jenkins.token"),
        (lambda: StepFunctions(state_machines={"up": "provision"}), "up is 'provision'"),
        (lambda: Secrets(prefix="orchestrator"), "like /orchestrator/builds"),
        (lambda: Secrets(prefix="/orchestrator/"), "like /orchestrator/builds"),
        (lambda: Secrets(prefix="/aws/builds"), "not begin with /aws or /ssm"),
        (lambda: Secrets(prefix="/a" * 6), "at most 5 parts"),
        (lambda: Jenkins(url="http://j:99999", user="u", token="t"), "https://jenkins.example/"),
        (lambda: Jenkins(url="https://j/?a=b", user="u", token="t"), "https://jenkins.example/"),
        (lambda: Jenkins(url="https://jen kins/", user="u", token="t"), "jenkins.example/"),
        (lambda: Jenkins(url="https://j", user="u", token="ssm:"), "refers to no name"),
        (lambda: ApiKey(keys=("plain", "secretsmanager: ")), "a reference without a name"),
        (lambda: Callback(url="ftp://c/webhook"), "callback.url must be like https://"),
        (lambda: Callback(url="http://["), "callback.url must be like https://"),
        (lambda: Callback(url="https://u:p@c/webhook"), "without user and password"),
        (lambda: Callback(allowed_hosts=("c", "c/")), "callback.allowed_hosts: 'c/' is no origin"),
        (lambda: Callback(allowed_hosts=("u:p@c",)), "callback.allowed_hosts: 'c' is no origin"),
    ],
)
def test_what_can_not_work_is_refused(section: Any, said: str) -> None:
    """At the start, with what is meant."""
    with pytest.raises(ValueError, match=re.escape(said)):
        section()


def test_a_jenkins_token_does_not_show() -> None:
    """Wherever settings are printed."""
    assert "hush" not in repr(Jenkins(url="https://j", user="u", token="hush"))


def test_an_empty_variable_is_none_where_there_may_be_none() -> None:
    """A template that leaves a variable empty means that there is nothing."""
    names = ("CALLBACK__URL", "BUILDERS__JENKINS__URL", "SECRETS__STORE", "INTAKE__QUEUE_URL")
    empty = dict.fromkeys([f"ORCHESTRATOR_{name}" for name in names], "")
    more = {"ORCHESTRATOR__EXTENSION": "", "DYNAMO_DB_REGION": "", "EVENT_BUS_AWS_REGION": ""}
    assert load(**empty, **more) == load()
    assert "http.port" in refusal(ORCHESTRATOR_HTTP__PORT="")


def test_the_ancestors_level_is_understood() -> None:
    """It is called warn there."""
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


@pytest.mark.parametrize(
    "base_path",
    [
        "/",
        "a",
        "/a/",
        "//a",
        "/a//b",
        "/a b",
        "/a?b",
        "/ä",
        "/a%20b",
        "/..",
        "/a/./b",
        "/{a}",
        "/a\n",
    ],
)
def test_another_base_path_is_refused(base_path: str) -> None:
    """The sentence shows how one is written."""
    sentence = refusal(ORCHESTRATOR_HTTP__BASE_PATH=base_path)
    assert f"http.base_path is {base_path!r}" in sentence
    assert "/orchestrator" in sentence


@pytest.mark.parametrize("name", ["", "web hook", "id:", "Ïd"])
def test_an_id_header_has_the_name_of_a_header(name: str) -> None:
    """RFC 9110, section 5.6.2; the refusal quotes it."""
    with pytest.raises(SettingsError, match=r"events\.id_headers has .* not a header name"):
        load_settings(environ={"ORCHESTRATOR_EVENTS__ID_HEADERS": json.dumps([name])})
