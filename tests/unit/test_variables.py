"""The variables of a job: a tier's attributes under what the event overrides."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.core.errors import PermanentError
from orchestrator.core.variables import build_variables

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
    """How a value is printed is the builder's business."""
    assert build_variables({"A": value}, {"B": value}) == {"A": value, "B": value}


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_name_is_passed(name: str) -> None:
    """Letters, digits and underscores, from the tier and from the event alike."""
    assert build_variables({name: 1}, {}) == {name: 1}
    assert build_variables({}, {name: 1}) == {name: 1}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_tiers_attribute_with_an_illegal_name_is_left_out_with_a_warning(name: str) -> None:
    """The tier serves other purposes too: the attribute is skipped, and somebody is told."""
    with capture_logs() as logs:
        assert build_variables({name: 1, "A": 1}, {}) == {"A": 1}
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert warning["attribute"] == name


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
    """What steers the orchestrator is no business of the job, and no reason for a warning."""
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
