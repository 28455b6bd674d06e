"""CodeBuild: builds that run until the benchmark ends them all."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from benchmarks.standin.refusal import Refused

Document = Mapping[str, Any]

_ARN = "arn:aws:codebuild:us-east-1:123456789012"
_LOG = "https://console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEvent:group=null;stream="


class CodeBuild:
    def __init__(self) -> None:
        self.builds: dict[str, dict[str, Any]] = {}
        self._by_token: dict[str, tuple[Document, str]] = {}
        self.looks: dict[str, int] = {}
        """How often each build was described."""

    def perform(self, operation: str, request: Document) -> Document:
        match operation:
            case "StartBuild":
                return {"build": self._start(request)}
            case "BatchGetBuilds":
                ids = request["ids"]
                if len(ids) > 100:
                    raise Refused("InvalidInputException", "at most 100 members are allowed")
                for one in ids:
                    self.looks[one] = self.looks.get(one, 0) + 1
                return {
                    "builds": [self.builds[one] for one in ids if one in self.builds],
                    "buildsNotFound": [one for one in ids if one not in self.builds],
                }
        raise Refused("UnknownOperationException", f"the benchmark knows no {operation}")

    def _start(self, request: Document) -> Document:
        token = request.get("idempotencyToken")
        if token in self._by_token:
            parameters, build_id = self._by_token[token]
            if parameters != request:
                raise Refused("InvalidInputException", "Parameter mismatch: another start's token")
            return self.builds[build_id]
        project = request["projectName"]
        build_id = f"{project}:{uuid.uuid4()}"
        build = self.builds[build_id] = {
            "id": build_id,
            "arn": f"{_ARN}:build/{build_id}",
            "buildNumber": len(self.builds) + 1,
            "startTime": round(time.time(), 3),
            "currentPhase": "QUEUED",
            "buildStatus": "IN_PROGRESS",
            "buildComplete": False,
            "projectName": project,
            "phases": [{"phaseType": "SUBMITTED", "startTime": round(time.time(), 3)}],
            "environment": {
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
                "environmentVariables": request.get("environmentVariablesOverride", []),
            },
            "logs": {"deepLink": f"{_LOG}null"},
            "timeoutInMinutes": 60,
            "queuedTimeoutInMinutes": 480,
            "initiator": "orchestrator",
        }
        if token:
            self._by_token[token] = (request, build_id)
        return build
