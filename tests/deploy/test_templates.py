"""Rules that a reviewer has for the CloudFormation templates, checked in the templates alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Settings, load_settings
from orchestrator.adapters.dynamodb.items import EXPIRY, table_schema
from orchestrator.core.events.event_types import (
    AWS_ALIASES,
    BUILD_STATE_CHANGE,
    EVENT_TYPES,
    RECONCILE,
)
from orchestrator.settings import Key
from tests.deploy.conftest import STACKS
from tests.deploy.environments import environments
from tests.deploy.templates import DEPLOY, ECS, LAMBDA, Stack

#: Actions without resource types (service authorization reference, ECR and CodeBuild).
WITHOUT_RESOURCES = {"ecr:GetAuthorizationToken", "codebuild:ListBuilds"}
ROUTED = {
    *(one.name for one in EVENT_TYPES if one.name != BUILD_STATE_CHANGE),
    *(alias for alias, name in AWS_ALIASES.items() if name != RECONCILE),
}


def statements(stack: Stack) -> Iterator[dict[str, Any]]:
    """Each statement of the policies of roles and queues."""
    for role in stack.of_type("AWS::IAM::Role").values():
        yield from role["AssumeRolePolicyDocument"]["Statement"]
        for policy in role["Policies"]:
            yield from policy["PolicyDocument"]["Statement"]
    for policy in stack.of_type("AWS::SQS::QueuePolicy").values():
        yield from policy["PolicyDocument"]["Statement"]


def listed(one_or_more: Any) -> list[Any]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


# --- valid -----------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [ECS, LAMBDA])
def test_cfn_lint_finds_nothing(template: str) -> None:
    """cfn-lint reports no error, warning or informational finding."""
    lint, file = Path(sys.executable).with_name("cfn-lint"), DEPLOY / template
    command = [str(lint), "-c", "I", "--", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# --- the ledger ------------------------------------------------------------------------------


def test_the_table_is_the_one_that_init_creates(stack: Stack) -> None:
    """The table has the keys and indexes that `init` creates, and is on demand."""
    (table,) = stack.of_type("AWS::DynamoDB::Table").values()
    created = table_schema("any")
    for name in ("BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes"):
        assert table[name] == created[name], name
    expiry = {"AttributeName": EXPIRY, "Enabled": True}
    assert table["TimeToLiveSpecification"] == expiry


def test_data_is_encrypted_and_can_be_restored(stack: Stack) -> None:
    """Table and queues are encrypted at rest, and the deletion of a stack retains the data."""
    resources = stack.resources.values()
    (table,) = stack.of_type("AWS::DynamoDB::Table").values()
    key = stack.parameters["LedgerKeyArn"]
    named = {"KMSMasterKeyId": key} if key else {}
    assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", **named}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    queues = stack.of_type("AWS::SQS::Queue").values()
    assert {queue["SqsManagedSseEnabled"] for queue in queues} == {True}
    kept = {"AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::Logs::LogGroup"}
    for resource in resources:
        if resource["Type"] in kept:
            assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"


# --- events ----------------------------------------------------------------------------------


def test_every_event_type_with_a_handler_is_routed(stack: Stack) -> None:
    """Lifecycle events are routed from the control plane's bus, state changes from AWS's own."""
    rules = stack.of_type("AWS::Events::Rule")
    lifecycle = rules["LifecycleRule"]
    assert lifecycle["EventBusName"] == stack.parameters["EventBusName"]
    assert set(lifecycle["EventPattern"]["detail-type"]) == ROUTED
    build = rules["CodeBuildRule"]
    assert "EventBusName" not in build
    assert build["EventPattern"]["source"] == ["aws.codebuild"]
    uses_machines = bool(stack.parameters["StateMachinePrefix"])
    assert ("StepFunctionsRule" in rules) == uses_machines
    assert rules["SweepRule"]["ScheduleExpression"] == "rate(1 minute)"


def test_no_event_is_lost_without_an_alarm(stack: Stack) -> None:
    """Each rule but the schedule retries for a day and has a dead-letter queue, the intake queue
    has the same one, and that has an alarm."""
    (dead_letters,) = {
        f"{alarm['Dimensions'][0]['Value'].removesuffix('.QueueName')}"
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    }
    arn = f"arn:aws:sqs:eu-west-1:111122223333:{dead_letters}"
    for name, rule in stack.of_type("AWS::Events::Rule").items():
        (target,) = rule["Targets"]
        if name == "SweepRule":  # the next sweep does its work
            assert target["RetryPolicy"]["MaximumRetryAttempts"] == 0
            continue
        assert target["DeadLetterConfig"] == {"Arn": arn}
        assert target["RetryPolicy"] == {
            "MaximumEventAgeInSeconds": 86_400,
            "MaximumRetryAttempts": 185,
        }
    queues = stack.of_type("AWS::SQS::Queue")
    for name, queue in queues.items():
        assert queue["MessageRetentionPeriod"] == 14 * 86_400
        if name != "DeadLetters":
            assert queue["RedrivePolicy"]["deadLetterTargetArn"] == arn
            assert 1 < queue["RedrivePolicy"]["maxReceiveCount"] <= 10


def test_only_the_stack_s_own_rules_may_send_to_its_queues(stack: Stack) -> None:
    """Only the stack's own rules, by their ARNs, may send to its queues, and only with TLS."""
    allowed, denied = stack.of_type("AWS::SQS::QueuePolicy")["QueuePolicy"]["PolicyDocument"][
        "Statement"
    ]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    rules = {
        f"arn:aws:events:eu-west-1:111122223333:rule/prod-{name}"
        for name, rule in stack.of_type("AWS::Events::Rule").items()
        if "sqs" in rule["Targets"][0]["Arn"] or "DeadLetterConfig" in rule["Targets"][0]
    }
    named = set(allowed["Condition"]["ArnEquals"]["aws:SourceArn"])
    assert rules <= named <= rules | {"arn:aws:events:eu-west-1:111122223333:rule/prod-SweepRule"}
    assert (denied["Effect"], denied["Principal"]) == ("Deny", "*")


# --- permissions -----------------------------------------------------------------------------


def test_no_policy_has_a_wildcard_that_it_could_do_without(stack: Stack) -> None:
    """No policy has a wildcard in an action, or as a resource where the action has resource
    types."""
    for statement in statements(stack):
        assert "NotAction" not in statement
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action]
        if "*" in listed(statement.get("Resource", [])):
            assert set(actions) <= WITHOUT_RESOURCES
        if "*" in str(statement.get("Principal", "")):
            assert statement["Effect"] == "Deny"


def test_roles_are_assumed_by_their_service_alone(stack: Stack) -> None:
    """A role is assumed by its service alone, and has no managed policy."""
    for role in stack.of_type("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        (service,) = statement["Principal"].values()
        assert service in (
            "ecs-tasks.amazonaws.com",
            "events.amazonaws.com",
            "lambda.amazonaws.com",
        )
        if service != "lambda.amazonaws.com":  # AWS passes no source account for it
            assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "111122223333"}}


def test_no_secret_is_a_parameter(stack: Stack) -> None:
    """No parameter is a secret: API keys are generated, and settings refer to them."""
    words = ("key", "secret", "password", "token")
    named = {name for name in stack.body["Parameters"] if any(one in name.lower() for one in words)}
    assert named <= {"ActiveApiKey", "LedgerKeyArn", "SecretStore"}
    for environment in environments(stack).values():
        keys = load_settings("production.toml", environ=environment).auth.secrets
        assert keys
        assert all(key.startswith("secretsmanager:arn:aws:") for key in keys)


@pytest.mark.parametrize("key", ["A", "B"])
def test_the_api_key_can_be_rotated(key: str) -> None:
    """EventBridge sends the active key, the service accepts both for events alone, and operators
    have a key of their own."""
    stack = Stack(ECS, {"Target": "api-destination", "ActiveApiKey": key})
    (connection,) = stack.of_type("AWS::Events::Connection").values()
    sent = connection["AuthParameters"]["ApiKeyAuthParameters"]
    arn = f"arn:aws:secretsmanager:eu-west-1:111122223333:secret:prod-ApiKey{key}-abcdef"
    assert sent == {
        "ApiKeyName": "x-api-key",
        "ApiKeyValue": f"{{{{resolve:secretsmanager:{arn}}}}}",
    }
    for environment in environments(stack).values():
        keys = load_settings("production.toml", environ=environment).auth.api_key.keys
        accepted = {one.key: (one.name, one.scopes) for one in keys if isinstance(one, Key)}
        assert accepted[f"secretsmanager:{arn}"] == ("eventbridge", ("events:write",))
        operators = accepted[f"secretsmanager:{arn.replace(f'ApiKey{key}', 'OperatorKey')}"]
        assert operators[0] == "operators"
        assert "runs:write" in operators[1]
        assert len(accepted) == 3


# --- exposure --------------------------------------------------------------------------------


def test_only_the_target_api_destination_is_public() -> None:
    """Only with the target `api-destination` is the load balancer public; there all but `POST
    /events` is 404, unless it comes from the operators' network."""
    for name in ("queue", "private", "api-destination"):
        stack, is_public = STACKS[name], name == "api-destination"
        (balancer,) = stack.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
        assert balancer["Scheme"] == ("internet-facing" if is_public else "internal")
        groups = stack.of_type("AWS::EC2::SecurityGroup").values()
        (ingress,) = [rule for one in groups for rule in one.get("SecurityGroupIngress", ())]
        assert ingress["CidrIp"] == ("0.0.0.0/0" if is_public else "10.0.0.0/8")
        assert (ingress["FromPort"], ingress["ToPort"]) == (443, 443)


def test_the_load_balancer_closes_idle_connections_first() -> None:
    """The load balancer closes an idle connection before the service does, so that it sends no
    request on a closing one."""
    stack = STACKS["queue"]
    (balancer,) = stack.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    attributes = {one["Key"]: one["Value"] for one in balancer["LoadBalancerAttributes"]}
    settings = load_settings("production.toml", environ=environments(stack)["ServiceTask"])
    assert int(attributes["idle_timeout.timeout_seconds"]) < settings.http.idle_timeout_s
    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"


def test_the_listener_forwards_events_and_operators() -> None:
    """The listener, which needs TLS 1.2 or newer, forwards events and operators' requests, and
    answers all else 404."""
    stack = STACKS["api-destination"]
    (listener,) = stack.of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    assert listener["Protocol"] == "HTTPS"
    assert "TLS13" in listener["SslPolicy"]
    (action,) = listener["DefaultActions"]
    assert action == {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
    rules = stack.of_type("AWS::ElasticLoadBalancingV2::ListenerRule")
    conditions = [one["Conditions"] for one in rules.values()]
    assert conditions == [
        [
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/events", "/events/*"]}},
            {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["POST"]}},
        ],
        [{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}}],
    ]


def test_a_function_has_an_http_api_only_if_requested() -> None:
    """A function has an HTTP API only on request, and no function URL, which would be public."""
    assert STACKS["lambda"].of_type("AWS::ApiGatewayV2::Api") == {}
    assert STACKS["lambda-api"].of_type("AWS::ApiGatewayV2::Api")
    for name in ("lambda", "lambda-api"):
        assert STACKS[name].of_type("AWS::Lambda::Url") == {}


# --- the tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["queue", "private", "api-destination"])
def test_tasks_run_with_the_least(name: str) -> None:
    """Tasks run without root, on a read-only root file system, an image by digest, and without a
    public address."""
    stack = STACKS[name]
    for task in stack.of_type("AWS::ECS::TaskDefinition").values():
        (container,) = task["ContainerDefinitions"]
        assert container["User"] == "10001:10001"
        assert container["ReadonlyRootFilesystem"] is True
        assert not container.get("Privileged")
        assert "@sha256:" in container["Image"]
        # The service drains for at most 25 s.
        assert container["StopTimeout"] == 30
        assert "/healthz" in container["HealthCheck"]["Command"][-1]
    for service in stack.of_type("AWS::ECS::Service").values():
        network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert network["AssignPublicIp"] == "DISABLED"
        assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"]["Rollback"] is True
    (group,) = stack.of_type("AWS::ElasticLoadBalancingV2::TargetGroup").values()
    assert group["HealthCheckPath"] == "/readyz"


@pytest.mark.parametrize("name", ["queue", "private", "api-destination"])
def test_service_and_worker_scale_apart(name: str) -> None:
    """Service and worker scale separately; a worker runs only where events arrive by a queue."""
    stack = STACKS[name]
    services = set(stack.of_type("AWS::ECS::Service"))
    assert services == ({"Service", "Worker"} if name == "queue" else {"Service"})
    scaled = stack.of_type("AWS::ApplicationAutoScaling::ScalableTarget").values()
    names = {one["ResourceId"].rpartition("/")[2] for one in scaled}
    assert names == {f"prod-{service}.Name" for service in services}


def test_service_and_worker_have_the_same_settings() -> None:
    """Service and worker have the same settings, except the worker's queue."""
    found = environments(STACKS["queue"])
    queue = found["WorkerTask"].pop("ORCHESTRATOR_INTAKE__QUEUE_URL")
    assert queue == "https://sqs.eu-west-1.amazonaws.com/111122223333/prod-Intake"
    assert found["WorkerTask"] == found["ServiceTask"]


def test_without_an_intake_queue_a_worker_redrives_the_dead_letters() -> None:
    """Without an intake queue the worker's task, which is run by hand, consumes the dead
    letters."""
    found = environments(STACKS["api-destination"])
    assert found["WorkerTask"]["ORCHESTRATOR_INTAKE__QUEUE_URL"].endswith("prod-DeadLetters")


def test_the_environment_is_made_of_settings(stack: Stack) -> None:
    """The environment is valid settings for production, whose ledger is this stack's table or a
    restored one."""
    for environment in environments(stack).values():
        settings = load_settings("production.toml", environ=environment)
        assert settings != Settings()
        assert settings.environment == "production"
        assert settings.ledger.table == (stack.parameters["RestoredLedger"] or "prod-Ledger")
        assert settings.events.bus == stack.parameters["EventBusName"]
        assert (settings.secrets.store or "") == stack.parameters["SecretStore"]
        assert settings.http.port == 8080


@pytest.mark.parametrize("name", ["lambda", "lambda-api"])
def test_a_function_reports_the_messages_that_it_did_not_handle(name: str) -> None:
    """A function reports failed messages one by one, and no message is received twice while it
    works."""
    stack = STACKS[name]
    (function,) = stack.of_type("AWS::Lambda::Function").values()
    (mapping,) = stack.of_type("AWS::Lambda::EventSourceMapping").values()
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # Lambda developer guide, Using Lambda with Amazon SQS.
    queue = stack.of_type("AWS::SQS::Queue")["Intake"]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert function["LoggingConfig"] == {"LogGroup": "prod-LogGroup"}
    # A lost sweep isn't retried: the next one follows within a minute.
    (asynchronous,) = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert asynchronous["MaximumRetryAttempts"] == 0


# --- alarms ----------------------------------------------------------------------------------


def test_each_alarm_notifies_a_topic(stack: Stack) -> None:
    """Each alarm notifies a topic, and each metric of the stack's own has its filter on the stack's
    log group."""
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    own = {"SweepAlarm", "OldestUnfinishedAlarm", "FailedRunsAlarm", "InternalErrorsAlarm"}
    assert own | {"DeadLettersAlarm"} <= set(alarms)
    filters = {
        transformation["MetricName"]
        for one in stack.of_type("AWS::Logs::MetricFilter").values()
        for transformation in one["MetricTransformations"]
    }
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [stack.parameters["AlarmTopicArn"]]
        assert (alarm["MetricName"] in filters) == (name in own), name
        # Missing data is a fault only where a line is logged each minute.
        assert (alarm["TreatMissingData"] == "breaching") == (name == "SweepAlarm")


def test_logs_have_a_retention(stack: Stack) -> None:
    """Logs, which may have names of tenants, have a retention."""
    (group,) = stack.of_type("AWS::Logs::LogGroup").values()
    assert int(group["RetentionInDays"]) == 90
