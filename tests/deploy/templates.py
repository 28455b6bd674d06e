"""Reads the CloudFormation templates like CloudFormation, with parameters and conditions
resolved."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

DEPLOY = Path(__file__).parents[2] / "deploy"
ECS = "cloudformation.yaml"
LAMBDA = "cloudformation-lambda.yaml"

REGION = "eu-west-1"
ACCOUNT = "111122223333"
STACK = "prod"

#: Parameters that have no default.
GIVEN: Mapping[str, str] = {
    "ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/orchestrator@sha256:{'0' * 64}",
    "EventBusName": "tenant-events",
    "TierTable": "tier-details",
    "CodeBuildProjectPrefix": "tenant-",
    "VpcId": "vpc-1",
    "TaskSubnets": "subnet-1,subnet-2",
    "LoadBalancerSubnets": "subnet-3,subnet-4",
    "DomainName": "orchestrator.example.com",
    "HostedZoneId": "Z1",
    "CertificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1",
    "AlarmTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms",
}
_PSEUDO: Mapping[str, str] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": STACK,
}
#: The ARN of a resource, by the service and the kind that its type belongs to.
_ARNS: Mapping[str, str] = {
    "AWS::DynamoDB::Table": "dynamodb:{place}:table/{name}",
    "AWS::SQS::Queue": "sqs:{place}:{name}",
    "AWS::Events::ApiDestination": "events:{place}:api-destination/{name}/1",
    "AWS::Events::Rule": "events:{place}:rule/{name}",
    "AWS::Logs::LogGroup": "logs:{place}:log-group:{name}:*",
    "AWS::SecretsManager::Secret": "secretsmanager:{place}:secret:{name}-abcdef",
}
_NO_VALUE = object()


@cache
def _read(name: str) -> Any:
    # The import takes two seconds, which only the worker that runs these tests needs.
    from cfnlint.decode import cfn_yaml

    return _plain(cfn_yaml.load(str(DEPLOY / name)))


def _plain(node: Any) -> Any:
    """The template without the positions that its reader adds."""
    if isinstance(node, dict):
        return {str(name): _plain(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


@attrs.frozen
class Stack:
    """A template with its parameters: the resources that CloudFormation would create."""

    template: str
    given: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The whole template, unresolved."""
        read: dict[str, Any] = _read(self.template)
        return read

    @property
    def parameters(self) -> dict[str, str]:
        """The values of all its parameters."""
        declared = self.body["Parameters"]
        defaults = {name: str(one["Default"]) for name, one in declared.items() if "Default" in one}
        needed = {name: value for name, value in GIVEN.items() if name in declared}
        return {**defaults, **needed, **self.given}

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources by name, with functions and conditions resolved."""
        return {
            name: self._resolve(resource)
            for name, resource in self.body["Resources"].items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type, by name."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }

    def _holds(self, condition: str) -> bool:
        return bool(self._test(self.body["Conditions"][condition]))

    def _test(self, node: Any) -> bool:
        ((function, about),) = node.items()
        match function:
            case "Condition":
                return self._holds(about)
            case "Fn::Equals":
                return bool(self._resolve(about[0]) == self._resolve(about[1]))
            case "Fn::Not":
                return not self._test(about[0])
        raise NotImplementedError(function)

    def _resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [each for each in map(self._resolve, node) if each is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, about),) = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._call(function, about)
        resolved = {name: self._resolve(value) for name, value in node.items()}
        return {name: value for name, value in resolved.items() if value is not _NO_VALUE}

    def _call(self, function: str, about: Any) -> Any:
        match function:
            case "Ref":
                return self._ref(about)
            case "Fn::GetAtt":
                name, _, attribute = (
                    about.partition(".") if isinstance(about, str) else (about[0], ".", about[1])
                )
                return self._attribute(name, attribute)
            case "Fn::If":
                return self._resolve(about[1] if self._holds(about[0]) else about[2])
            case "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", self._substitute, about)
        raise NotImplementedError(function)

    def _substitute(self, found: re.Match[str]) -> str:
        name, dot, attribute = found[1].partition(".")
        return str(self._attribute(name, attribute) if dot else self._ref(name))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name in self.body["Parameters"]:
            value = self.parameters[name]
            is_list = self.body["Parameters"][name]["Type"].startswith("List<")
            return value.split(",") if is_list else value
        return self._ref_of_resource(name)

    def _ref_of_resource(self, name: str) -> str:
        match self.body["Resources"][name]["Type"]:
            case "AWS::SecretsManager::Secret":
                return self._attribute(name, "Arn")
            case "AWS::SQS::Queue":
                return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{_name(name)}"
        return _name(name)

    def _attribute(self, name: str, attribute: str) -> str:
        if attribute != "Arn":
            return f"{_name(name)}.{attribute}"
        pattern = _ARNS.get(self.body["Resources"][name]["Type"], "service:{place}:{name}")
        return "arn:aws:" + pattern.format(place=f"{REGION}:{ACCOUNT}", name=_name(name))


def _name(name: str) -> str:
    return f"{STACK}-{name}"
