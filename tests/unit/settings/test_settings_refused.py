"""Which settings are refused, and what is said of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator import SettingsError, load_settings
from orchestrator.settings import (
    ApiKey,
    Callback,
    Jenkins,
    Secrets,
    StepFunctions,
)
from tests.unit.settings.loading import load, refusal


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
def test_the_refusal_of_a_wrong_choice_lists_the_right_ones(
    variable: str, named: str, allowed: list[str]
) -> None:
    """A setting with a few allowed values lists them in its refusal."""
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


def test_a_variable_with_broken_json_is_refused() -> None:
    """The sentence has the variable's name, but not its text, which may be a key."""
    sentence = refusal(ORCHESTRATOR_AUTH__API_KEY__KEYS="hunter2")
    assert "ORCHESTRATOR_AUTH__API_KEY__KEYS is not JSON" in sentence
    assert '["one", "two"]' in sentence
    assert "hunter2" not in sentence
    assert '{"name": "value"}' in refusal(ORCHESTRATOR_EVENTS__ALIASES="a=b")


def test_a_section_that_is_no_table_is_named(write: Any) -> None:
    """A file's number where a section belongs is refused, whatever the environment adds."""
    assert "http must be a table" in refusal(write("http = 3\n"), ORCHESTRATOR_HTTP__PORT="9000")


def test_a_path_is_never_taken_for_a_shipped_name(tmp_path: Path) -> None:
    """Only a bare name stands for a file of the package; a missing path is an error."""
    missing = tmp_path / "local.toml"
    assert str(missing) in refusal(missing)


@pytest.mark.parametrize("variable", ["TIERS__CACHE_S", "EVENTS__DEDUPE_WINDOW_S"])
def test_no_duration_is_endless(variable: str) -> None:
    """Infinity is no number of seconds to calculate with."""
    assert "must be <" in refusal(**{f"ORCHESTRATOR_{variable}": "inf"})


@pytest.mark.parametrize(
    "variable",
    [
        "LEDGER__LEASE_S",
        "LEDGER__RETENTION_DAYS",
        "OPERATIONS__DEADLINE_S",
        "OPERATIONS__RECONCILE_EVERY_S",
        "INTAKE__DEADLINE_S",
        "EVENTS__DEDUPE_WINDOW_S",
        "TIERS__CACHE_S",
        "AWS__READ_TIMEOUT_S",
        "HTTP__IDLE_TIMEOUT_S",
    ],
)
def test_no_duration_leads_beyond_the_calendar(variable: str) -> None:
    """The longest is 100 years: what lies beyond the calendar would fail each event."""
    longest = 36_525 if variable.endswith("_DAYS") else 36_525 * 86_400
    load(**{f"ORCHESTRATOR_{variable}": str(longest)})
    assert f"must be <= {longest}" in refusal(**{f"ORCHESTRATOR_{variable}": str(longest + 1)})


@pytest.mark.parametrize("name", ["", " ", "a b", "a\tb", "a\x00b"])
@pytest.mark.parametrize(
    "variable",
    ["LEDGER__TABLE", "TIERS__TABLE", "EVENTS__SOURCE", "EVENTS__SBT_SOURCE", "HTTP__HOST"],
)
def test_a_name_that_is_none_is_refused(variable: str, name: str) -> None:
    """It is refused at the start, not by AWS; an empty host would be each interface."""
    setting = variable.lower().replace("__", ".")
    said = refusal(**{f"ORCHESTRATOR_{variable}": name})
    assert f"{setting} is {name!r}: it must have characters, and no white space" in said


@pytest.mark.parametrize(
    "host", ["", "https://api.example", "api.example/x", "a b", "u@api.example"]
)
def test_an_allowed_host_is_a_host(host: str) -> None:
    """What no Host header can be would refuse every request."""
    said = refusal(ORCHESTRATOR_HTTP__ALLOWED_HOSTS=json.dumps([host]))
    assert (
        f"http.allowed_hosts has {host!r}: each must be like api.example or localhost:8080" in said
    )


def test_production_does_not_start_open() -> None:
    """An open service is refused in production, unless a setting allows just that."""
    production = {"ORCHESTRATOR__ENVIRONMENT": "production"}
    assert "auth.methods" in refusal(**production)
    allowed = load_settings(environ={**production, "ORCHESTRATOR_AUTH__ALLOW_OPEN": "true"})
    assert allowed.environment == "production"


@pytest.mark.parametrize("blank", ["", " ", "\\n", "\\u00a0"])
def test_a_blank_api_key_is_refused(blank: str) -> None:
    """It would let in a sender that sends none; the others aren't shown."""
    said = refusal(ORCHESTRATOR_AUTH__API_KEY__KEYS=f'["hunter2", "{blank}"]')
    assert "auth.api_key.keys has a key that is empty or blank" in said
    assert "hunter2" not in said


def test_the_method_api_key_needs_a_key() -> None:
    """A method without keys would let no sender in."""
    assert "auth.api_key.keys" in refusal(ORCHESTRATOR_AUTH__METHODS='["api_key"]')


@pytest.mark.parametrize("text", ["[http\n", "a = \n"])
def test_a_file_that_is_not_toml_is_named(write: Any, text: str) -> None:
    """Broken TOML is refused with the file's name."""
    path = write(text)
    assert f"The settings file {path} is not TOML" in refusal(path)


@pytest.mark.parametrize("text", [b'a = "caf\xe9"\n', "a = 1\n".encode("utf-16")])
def test_a_file_of_another_encoding_is_named(write: Any, text: bytes) -> None:
    """TOML is UTF-8; the sentence says what to do, and not what a codec says."""
    path = write(text)
    assert refusal(path) == f"The settings file {path} is not UTF-8: save it so."


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """A file that can't be read stops the start, whichever way it was named."""
    path = tmp_path / "missing.toml"
    assert f"The settings file {path} can't be read: No such file" in refusal(path)
    assert str(path) in refusal(ORCHESTRATOR_CONFIG=str(path))
    assert "can't be read" in refusal(tmp_path)


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
def test_settings_that_can_not_work_are_refused(section: Any, said: str) -> None:
    """A setting that can't work is refused at the start, with a sentence."""
    with pytest.raises(ValueError, match=re.escape(said)):
        section()


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
