"""The Terraform add-on for arc-saas is valid, and fits what the service calls and handles."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Settings, load_settings
from orchestrator.adapters.dynamodb.items import EXPIRY, table_schema
from orchestrator.core.events.event_types import BUILD_STATE_CHANGE, EVENT_TYPES
from orchestrator.testing import envelope
from tests.conftest import StartService
from tests.deploy.policies import called_by, differences, rights
from tests.deploy.terraform import ADDON, Addon

STAND_IN = Path(__file__).parent / "arc_saas"
OWN, OVERRIDE = Addon("orchestrator.tf"), Addon("orchestrator_override.tf")
#: The event types that arc-saas's own rule routes.
ROUTED_BEFORE = {
    "TENANT_PROVISIONING",
    "TENANT_PROVISIONING_SUCCESS",
    "TENANT_PROVISIONING_FAILURE",
    "TENANT_DEPLOYMENT",
    "TENANT_DEPLOYMENT_SUCCESS",
    "TENANT_DEPLOYMENT_FAILURE",
    "TENANT_DEPROVISIONING",
}


def run_terraform(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform isn't installed")
    return subprocess.run(  # noqa: S603
        [program, *arguments, "-no-color"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """The add-on's files among those of a stand-in for arc-saas's, initialized. The AWS provider
    comes from TF_PLUGIN_DIR if that is set, else from the registry."""
    shutil.copytree(STAND_IN, tmp_path, dirs_exist_ok=True)
    for file in ADDON.glob("*.tf"):
        shutil.copy(file, tmp_path)
    plugins = os.environ.get("TF_PLUGIN_DIR")
    options = [f"-plugin-dir={plugins}"] if plugins else []
    done = run_terraform("init", "-input=false", *options, folder=tmp_path)
    if done.returncode:
        pytest.skip("terraform finds no AWS provider: set TF_PLUGIN_DIR to a plugin folder")
    return tmp_path


# --- with Terraform --------------------------------------------------------------------------


def test_terraform_finds_it_valid(merged: Path) -> None:
    """The merged configuration is valid and formatted."""
    for arguments in (("validate",), ("fmt", "-check", "-recursive")):
        done = run_terraform(*arguments, folder=merged)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_its_own_tests_pass(merged: Path) -> None:
    """In a plan over mocked AWS the target keeps its settings and gets dead letters, the rules have
    it as their target, and the function gets its settings and one policy."""
    done = run_terraform("test", folder=merged)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 0 failed" in done.stdout


# --- without Terraform -----------------------------------------------------------------------


def test_the_table_is_the_one_that_init_creates() -> None:
    """The table has the keys and indexes that `init` creates, and is encrypted, restorable and on
    demand."""
    (table,) = OWN.named("aws_dynamodb_table").values()
    created = table_schema("any")
    assert table["billing_mode"] == created["BillingMode"]
    assert created["KeySchema"] == [{"AttributeName": table["hash_key"], "KeyType": "HASH"}]
    named = re.findall(r'"(\w+)"', table["dynamic"][0]["attribute"]["for_each"])
    types = [(name, table["dynamic"][0]["attribute"]["content"][0]["type"]) for name in named]
    wanted = [
        (one["AttributeName"], one["AttributeType"]) for one in created["AttributeDefinitions"]
    ]
    assert types == wanted
    indexes = [
        {
            "IndexName": index["name"],
            "KeySchema": [
                {"AttributeName": index["hash_key"], "KeyType": "HASH"},
                {"AttributeName": index["range_key"], "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": index["projection_type"]},
        }
        for index in table["global_secondary_index"]
    ]
    assert indexes == created["GlobalSecondaryIndexes"]
    assert table["ttl"] == [{"attribute_name": EXPIRY, "enabled": True}]
    assert table["server_side_encryption"] == [{"enabled": True}]
    assert table["point_in_time_recovery"] == [{"enabled": True}]
    assert table["deletion_protection_enabled"] is True


def test_every_event_type_with_a_handler_is_routed() -> None:
    """Each event type with a handler is routed either by arc-saas's own rule or by the add-on's."""
    pattern = OWN.named("aws_cloudwatch_event_rule")["orchestrator_lifecycle"]["event_pattern"]
    added = set(re.findall(r'"(TENANT_\w+)"', pattern))
    assert added | ROUTED_BEFORE == {one.name for one in EVENT_TYPES} - {BUILD_STATE_CHANGE}
    assert not added & ROUTED_BEFORE


def test_events_are_retried_for_a_day_and_kept() -> None:
    """Events are retried for a day and then kept, by arc-saas's own target too; only a sweep may be
    lost."""
    targets = {
        **OWN.named("aws_cloudwatch_event_target"),
        **OVERRIDE.named("aws_cloudwatch_event_target"),
    }
    assert targets.keys() == {
        "api_gateway_target",
        "orchestrator_lifecycle",
        "orchestrator_builds",
        "orchestrator_sweep",
    }
    assert "dead_letter_config" not in targets.pop("orchestrator_sweep")
    for target in targets.values():
        assert target["dead_letter_config"][0]["arn"].endswith(
            ":saas-dev-orchestrator-dead-letters"
        )
        assert target["retry_policy"] == [
            {"maximum_event_age_in_seconds": 86_400, "maximum_retry_attempts": 185}
        ]
    (queue,) = OWN.named("aws_sqs_queue").values()
    assert queue["sqs_managed_sse_enabled"] is True
    assert queue["message_retention_seconds"] == 14 * 86_400
    (redrive,) = OWN.named("aws_lambda_event_source_mapping").values()
    assert redrive["function_response_types"] == ["ReportBatchItemFailures"]


async def test_the_paths_of_the_targets_are_those_of_the_service(
    start_service: StartService,
) -> None:
    """The service accepts the envelope that EventBridge sends to each target's fixed path."""
    sent = {
        "orchestrator_builds": "CodeBuild Build State Change",
        "orchestrator_sweep": "Scheduled Event",
    }
    service = await start_service()
    for name, detail_type in sent.items():
        target = OWN.named("aws_cloudwatch_event_target")[name]
        (path,) = target["http_target"][0]["path_parameter_values"]
        answer = await service.post(f"/events/{path}", json=envelope(detail_type, {}))
        assert answer.status == 200, await answer.text()


async def test_the_function_s_policy_is_what_the_adapters_call(denied_aws: None) -> None:
    """The function's only policy allows what the adapters call, instead of four that administer
    whole services."""
    module = OVERRIDE.module("lambda_function_container_image")
    assert module["policies"] == ["${aws_iam_policy.orchestrator.arn}"]
    documents = OWN.named("aws_iam_policy_document", block="data")
    statements = [
        {"Effect": "Allow", "Action": one["actions"], "Resource": one["resources"]}
        for one in documents["orchestrator"]["statement"]
    ]
    called = await called_by(environment())
    assert differences(rights(statements), called) == {"not called": [], "not granted": []}


def environment() -> dict[str, str]:
    """The function's environment variables."""
    given: dict[str, str] = OVERRIDE.module("lambda_function_container_image")[
        "environment_variables"
    ]
    return given


def test_no_policy_has_a_wildcard_that_it_could_do_without() -> None:
    """No policy has a wildcard in an action, or as a resource where the action has resource
    types."""
    statements: list[Any] = [
        statement
        for document in OWN.named("aws_iam_policy_document", block="data").values()
        for statement in document["statement"]
    ]
    for statement in statements:
        assert not [action for action in statement["actions"] if "*" in action]
        if "*" in statement["resources"]:
            assert statement["actions"] == ["codebuild:ListBuilds"]
    (delivery,) = OWN.named("aws_iam_policy_document", block="data")["orchestrator_delivery"][
        "statement"
    ]
    assert delivery["actions"] == ["execute-api:Invoke"]


def test_the_environment_is_made_of_settings() -> None:
    """The environment is valid settings with arc-saas's own variables, the sender is authenticated
    by API Gateway's IAM auth, and may send events only."""
    settings = load_settings("production.toml", environ=environment())
    assert settings != Settings()
    assert settings.environment == "production"
    assert settings.tiers.table == "saas-dev-decoupling-tier-map-table"
    assert settings.events.bus == "saas-dev-DecouplingEventBus"
    assert settings.ledger.table == "saas-dev-orchestrator-ledger"
    assert not settings.auth.allow_open
    assert settings.auth.methods == ("gateway",)
    assert settings.auth.gateway.proof == "lambda"
    assert settings.auth.gateway.scopes == ("events:write",)
