"""The variables of a job: a tier's attributes under what the event overrides."""

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import Binary
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from orchestrator.core.errors import PermanentError
from orchestrator.core.events.javascript import stringify
from orchestrator.core.events.json_text import as_json
from orchestrator.core.jobs.plan import (
    MAX_VARIABLE_VALUES,
    MAX_VARIABLES,
    as_variables,
    build_field_variables,
    build_variables,
    tier_options,
)

LEGAL = ["A", "_", "a1", "VPC_ID", "_9", "tier", "jobName", "X_CODEBUILD_Y", "codebuild_x"]
ILLEGAL = ["", "1A", "A-B", "A.B", "A B", "Ä", "A\n", "CODEBUILD_", "CODEBUILD_BUILD_ID", "٣"]


def test_an_override_lies_over_the_tiers_attributes() -> None:
    """Both are there, and the event's value wins where both name one."""
    assert build_variables({"A": 1, "B": 2}, {"B": 3, "C": 4}) == {"A": 1, "B": 3, "C": 4}


def test_an_override_may_take_an_attribute_away() -> None:
    """A null over a tier's value stays a null, which the builder leaves out."""
    assert build_variables({"A": 1}, {"A": None}) == {"A": None}


@pytest.mark.parametrize("value", [1, True, None, "x", [1], {"a": {"b": 1}}])
def test_values_are_passed_as_they_are(value: Any) -> None:
    """How a value is printed is decided by the builder."""
    assert build_variables({"A": value}, {"B": value}) == {"A": value, "B": value}


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_name_is_passed(name: str) -> None:
    """Letters, digits and underscores, from the tier and from the event alike."""
    assert build_variables({name: 1}, {}) == {name: 1}
    assert build_variables({}, {name: 1}) == {name: 1}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_tiers_attribute_with_an_illegal_name_is_left_out_with_a_warning(name: str) -> None:
    """The tier serves other purposes too: the attribute is skipped, and a warning names it."""
    with capture_logs() as logs:
        assert build_variables({name: 1, "A": 1}, {}) == {"A": 1}
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert warning["attributes"] == [name]


def test_an_override_with_an_illegal_name_is_refused() -> None:
    """Every illegal name of the event is reported, at its own path."""
    names = [name for name in ILLEGAL if name]
    with pytest.raises(PermanentError, match=r"^Invalid builder config provided\.$") as refused:
        build_variables({"A": 1}, {"OK": 1} | dict.fromkeys(names, 1))
    assert [mismatch.path for mismatch in refused.value.errors] == [
        f"$.builderConfig.config.environmentOverride.{name}" for name in names
    ]
    assert "is no variable name" in refused.value.errors[0].message


@pytest.mark.parametrize(
    "name",
    [
        "jobIdentifier",
        "deprovisioningJobIdentifier",
        "deploymentJobIdentifier",
        "cleanupJobIdentifier",
        "builder",
        "codebuild",
    ],
)
def test_our_own_attributes_stay_out_silently(name: str) -> None:
    """What configures the orchestrator isn't passed to the job, and is no reason for a warning."""
    with capture_logs() as logs:
        assert build_variables({name: "x", "jobName": "j", "tier": "t"}, {}) == {
            "jobName": "j",
            "tier": "t",
        }
    assert logs == []


@pytest.mark.parametrize("name", ["jobIdentifiers", "JobIdentifierX", "builders", "Codebuild"])
def test_only_the_very_names_are_reserved(name: str) -> None:
    """A name that merely resembles one of ours is the user's."""
    assert build_variables({name: 1}, {}) == {name: 1}


def test_the_tier_itself_is_not_changed() -> None:
    """The catalog's value serves the next event too."""
    tier = {"A": 1, "jobIdentifier": "j"}
    build_variables(tier, {"A": 2})
    assert tier == {"A": 1, "jobIdentifier": "j"}


# --- as JSON has them ------------------------------------------------------------------------

EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (date(2027, 1, 31), "2027-01-31"),
        (time(7, 32), "07:32:00"),
        (datetime(2027, 1, 31, 7, 32), "2027-01-31T07:32:00"),  # noqa: DTZ001 - TOML has such
        (datetime(2027, 1, 31, 7, 32, tzinfo=UTC), "2027-01-31T07:32:00Z"),
        (datetime(2027, 1, 31, 7, 32, 0, 500_000, tzinfo=EAST), "2027-01-31T07:32:00.500000+05:30"),
        ({"a": [date(2027, 1, 31)]}, {"a": ["2027-01-31"]}),
        (Decimal("3.6E3"), 3600),
        (Decimal("0.25"), 0.25),
        ({7: (1, None)}, {"7": [1, None]}),
        (2**53 + 1, 2**53 + 1),
    ],
)
def test_dates_and_decimals_become_what_json_has(value: Any, passed: Any) -> None:
    """A date is its text in ISO 8601, at any depth; a Decimal is a number."""
    assert as_json(value) == passed
    assert build_variables({"A": value}, {"B": value}) == {"A": passed, "B": passed}


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
NUMBER, TYPE, HALF, DEEP = "a number", "JSON has no form", "half a character", "nested too deeply"
ODD = [
    (b"x", TYPE),
    (Binary(b"x"), TYPE),
    ({1, 2}, TYPE),
    (object(), TYPE),
    (1j, TYPE),
    ({"a": [b"x"]}, TYPE),
    (math.nan, NUMBER),
    (-math.inf, NUMBER),
    ([math.inf], NUMBER),
    (10**400, NUMBER),
    (10**5000, NUMBER),
    (Decimal("NaN"), NUMBER),
    (Decimal("sNaN"), NUMBER),
    (Decimal("-Infinity"), NUMBER),
    (Decimal("1E+999999"), NUMBER),
    ("\ud800", HALF),
    ({"\udfff": 1}, HALF),
    ({"a": ["b\udc00c"]}, HALF),
    (nested(101), DEEP),
    (ENDLESS, DEEP),
]
IDS = [f"{why}-{number}" for number, (_, why) in enumerate(ODD)]


@pytest.mark.parametrize(("value", "why"), ODD, ids=IDS)
def test_a_variable_without_a_json_form_is_refused_by_name(value: Any, why: str) -> None:
    """Each bad value of the event has its own path, and each one of the tier its attribute."""
    path = "$.builderConfig.config.environmentOverride"
    with pytest.raises(PermanentError, match=r"^Invalid builder config provided\.$") as refused:
        build_variables({"C": value}, {"A": value, "OK": 1, "B": [value]})
    assert [error.path for error in refused.value.errors] == [f"{path}.A", f"{path}.B"]
    assert why in refused.value.errors[0].message

    with pytest.raises(PermanentError, match=f"The tier's attribute A can't .*{why}") as refused:
        build_variables({"A": value, "OK": 1, "B": [value]}, {})
    assert [error.path for error in refused.value.errors] == ["$.planConfig.tier"] * 2
    assert "attribute B " in refused.value.errors[1].message

    with pytest.raises(PermanentError, match=f"The variable A can't .*{why}"):
        as_variables({"OK": 1, "A": value})

    with pytest.raises(PermanentError, match=f"attribute codebuild.image can't .*{why}") as refused:
        tier_options({"image": value})
    assert "codebuild.image" in refused.value.errors[0].message


def test_only_what_is_passed_must_be_printable() -> None:
    """What an override replaces, what configures us and what has an illegal name is left alone."""
    tier = {"A": b"x", "cleanupJobIdentifier": b"x", "A-B": b"x"}
    assert build_variables(tier, {"A": 1}) == {"A": 1}


def test_values_may_be_nested_as_deep_as_events() -> None:
    """A value of as many levels as an event may have is passed; a deeper one is refused."""
    assert as_json(nested(100)) == nested(100)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.decimals()
        | st.text()
        | st.binary()
        | st.dates()
        | st.datetimes()
        | st.sets(st.integers()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_accepted_variable_can_be_printed(value: Any) -> None:
    """Either a value is refused with a sentence, or every builder can print it."""
    try:
        passed = as_json(value)
    except ValueError:
        return
    json.loads(stringify(passed).encode())
    json.dumps(passed, allow_nan=False)


def test_fields_are_variables_under_their_own_names() -> None:
    """Scalars as they are, objects and lists as compact JSON; ours and illegal names aren't."""
    reference = {"type": "SECRETS_MANAGER", "value": "prod"}
    body = {
        "tenantId": "t-1",
        "seats": 3,
        "gone": None,
        "prices": [{"id": "p", "each": 2.0}],
        "reference": reference,
        **dict.fromkeys(ILLEGAL, "x"),
        **dict.fromkeys(("tenant", "builderConfig", "builder", "codebuild"), "x"),
        **dict.fromkeys(("jobIdentifier", "cleanupJobIdentifier"), "x"),
    }
    with capture_logs() as logs:
        assert build_field_variables(body) == {
            "tenantId": "t-1",
            "seats": 3,
            "gone": None,
            "prices": '[{"id":"p","each":2}]',
            "reference": '{"type":"SECRETS_MANAGER","value":"prod"}',
        }
    (line,) = logs
    assert (sorted(line["attributes"]), line["count"]) == (sorted(ILLEGAL), len(ILLEGAL))


STEERING = ["PATH", "BASH_ENV", "LD_PRELOAD", "http_proxy", "npm_config_registry", "TF_VAR_role"]


def test_no_field_steers_a_tool() -> None:
    """A sender of fields can't set a name that a shell or a tool obeys."""
    with capture_logs() as logs:
        assert build_field_variables({**dict.fromkeys(STEERING, "x"), "tenantId": "t"}) == {
            "tenantId": "t"
        }
    assert [one["attributes"] for one in logs] == [STEERING]


def test_left_out_fields_are_one_line() -> None:
    """One line names the first of them, however many a sender has chosen."""
    with capture_logs() as logs:
        assert build_field_variables({f"-{n}": "x" for n in range(MAX_VARIABLES)}) == {}
    (line,) = logs
    assert (line["attributes"][0], len(line["attributes"])) == ("-0", 20)
    assert line["count"] == MAX_VARIABLES


@pytest.mark.parametrize("build", [build_field_variables, as_variables])
def test_more_variables_than_a_job_needs_are_refused(build: Any) -> None:
    """The refusal has how many there are and may be, and no value is read."""
    build({f"v{n}": "x" for n in range(MAX_VARIABLES)})
    with pytest.raises(PermanentError, match=r"There are 1001 variables .* at most 1000"):
        build({f"v{n}": object() for n in range(MAX_VARIABLES + 1)})


@pytest.mark.parametrize("build", [build_field_variables, as_variables])
def test_more_values_than_a_job_can_take_are_refused(build: Any) -> None:
    """The values of all variables together are counted, before any is converted."""
    halves = {"a": [0] * (MAX_VARIABLE_VALUES // 2), "b": {"c": [0] * (MAX_VARIABLE_VALUES // 2)}}
    with pytest.raises(PermanentError, match="more than 4096 values"):
        build({**halves, "d": object()})
    halves["b"]["c"] = halves["b"]["c"][3:]  # type: ignore[index]
    assert set(build(halves)) == {"a", "b"}


def test_a_field_that_no_job_can_get_is_named() -> None:
    """Each field that no job can get is named by its path."""
    with pytest.raises(PermanentError) as refused:
        build_field_variables({"a": math.nan, "b": {"c": "half \ud83d"}, "d": 1})
    assert [error.path for error in refused.value.errors] == ["$.a", "$.b"]
