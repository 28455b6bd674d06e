"""Notifications about jobs: what a job was started with goes no further."""

import json
from typing import Any

import pytest

from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS as NOTIFICATIONS

BUILD = {
    "build-status": "FAILED",
    "additional-information": {"environment": {"environment-variables": ["hunter2"]}, "phase": 1},
}
EXECUTION = {"status": "FAILED", "input": "hunter2", "output": "hunter2", "name": "e-1"}


@pytest.mark.parametrize("notification", [BUILD, EXECUTION], ids=["CodeBuild", "Step Functions"])
@pytest.mark.parametrize(
    "around",
    [
        lambda notification: notification,
        lambda notification: {"detail": notification},
        lambda notification: {"detail": json.dumps(notification)},
        lambda notification: {"Entries": [{"Detail": "\ufeff \n" + json.dumps(notification)}]},
        lambda notification: {
            "Message": json.dumps({"body": json.dumps({"detail": [notification]})})
        },
    ],
    ids=["plain", "envelope", "text", "entries", "nested text"],
)
def test_inputs_are_hidden_wherever_they_lie(notification: Any, around: Any) -> None:
    """Inputs of every known builder's jobs are removed, configured or not; the status is left."""
    shown = json.dumps(NOTIFICATIONS.without_inputs(around(notification)))
    assert "hunter2" not in shown
    assert "FAILED" in shown


def test_only_an_excerpt_of_a_cause_is_passed_on() -> None:
    """A nested task fails with its whole description, input and all: only its words are left."""
    nested = json.dumps({"Cause": "no quota", "Input": "hunter2"})
    shown = NOTIFICATIONS.without_inputs({"detail": {"status": "FAILED", "cause": nested}})
    assert shown == {"detail": {"status": "FAILED", "cause": "no quota"}}


@pytest.mark.parametrize("value", ["{no JSON", "[1, 2", "plain", 7, None])
def test_a_body_that_is_no_notification_is_unchanged(value: Any) -> None:
    """A body that is no notification is unchanged, also text that only begins like JSON."""
    assert NOTIFICATIONS.without_inputs({"a": [value]}) == {"a": [value]}


@pytest.mark.parametrize(
    ("source", "builder", "is_its_own"),
    [
        ("aws.codebuild", "CODE_BUILD", True),
        ("aws.states", "STEP_FUNCTIONS", True),
        ("aws.states", "CODE_BUILD", False),
        ("aws.codebuild", "STEP_FUNCTIONS", False),
        ("me", "CODE_BUILD", False),
        ("aws.codebuild", "JENKINS", False),
    ],
)
def test_a_source_is_that_of_its_builders_cloud(
    source: str, builder: str, is_its_own: bool
) -> None:
    """No other sender can put an event with it on a bus."""
    assert NOTIFICATIONS.is_source(source, builder) is is_its_own


def test_a_self_report_names_its_builder_by_its_registered_name() -> None:
    """A custom builder that is registered as CODE_BUILD is found by it."""
    job = NOTIFICATIONS.read_self_report({"CODEBUILD_BUILD_ID": "standard:1"})
    assert job is not None
    assert (job.builder, job.id) == ("CODE_BUILD", "standard:1")
    assert NOTIFICATIONS.read_self_report({"tenantId": "t-1"}) is None
