"""The roles of the deployments allow what the adapters call, and nothing else."""

from tests.deploy.environments import environments
from tests.deploy.policies import Right, called_by, differences, rights
from tests.deploy.templates import Stack


async def test_the_role_s_policy_is_what_the_adapters_call(stack: Stack, denied_aws: None) -> None:
    """The only role of service and worker allows what both of them call."""
    called: set[Right] = set()
    for environment in environments(stack).values():
        called |= await called_by(environment)
    granted = {
        right
        for role in stack.of_type("AWS::IAM::Role").values()
        for policy in role["Policies"]
        if policy["PolicyName"] == "orchestrator"
        for right in rights(policy["PolicyDocument"]["Statement"])
    }
    assert differences(granted, called) == {"not called": [], "not granted": []}


def test_a_difference_is_found() -> None:
    """A difference is found in both directions, and in the resource too."""
    table = "arn:aws:dynamodb:eu-west-1:1:table/a"
    granted = {("dynamodb:PutItem", table), ("dynamodb:DeleteItem", table)}
    called = {
        ("dynamodb:PutItem", "arn:aws:dynamodb:*:*:table/a"),
        ("dynamodb:Query", "arn:aws:dynamodb:*:*:table/a/index/*"),
        ("dynamodb:PutItem", "arn:aws:dynamodb:*:*:table/b"),
    }
    assert differences(granted, called) == {
        "not called": [("dynamodb:DeleteItem", table)],
        "not granted": [
            ("dynamodb:PutItem", "arn:aws:dynamodb:*:*:table/b"),
            ("dynamodb:Query", "arn:aws:dynamodb:*:*:table/a/index/*"),
        ],
    }
