"""What AWS tells by itself of a job: CodeBuild's state changes and Step Functions'.

Both carry all that the job was started with, secrets included; none of that goes further.
"""

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.core.builds import read_build
from orchestrator.core.executions import read_cause, read_execution
from orchestrator.core.jobs import JobReport
from orchestrator.core.payloads import read_object

#: Where a build's environment stands, and what an execution was given and gave.
_ENVIRONMENTS = frozenset({"environment-variables", "input", "output"})


def read_state_change(detail: Mapping[str, Any]) -> JobReport | None:
    """The job that a state change is about; None if it can't be read."""
    return read_execution(detail) if "executionArn" in detail else read_build(detail)


def without_environment(value: Any) -> Any:
    """A state change, or an envelope around one, without what the job was started with."""
    match value:
        case Mapping():
            return {
                name: read_cause(item) if name == "cause" else without_environment(item)
                for name, item in value.items()
                if name not in _ENVIRONMENTS
            }
        case list():
            return [without_environment(item) for item in value]
        case str() if value[:1] in ("{", "["):
            # Details may come as JSON text; what isn't JSON holds no environment.
            inner = read_object(value)
            return json.dumps(without_environment(inner)) if inner else value
    return value
