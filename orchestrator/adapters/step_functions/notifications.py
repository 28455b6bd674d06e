"""Reads Step Functions' status changes; executions send no self-reports."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.adapters.step_functions.executions import (
    STEP_FUNCTIONS,
    read_cause,
    read_execution,
)
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.record_parts import Job

_CHANGE = re.compile(r"Step Functions .*Change")


class StepFunctionsNotifications:
    builder = STEP_FUNCTIONS
    #: A source that only AWS can publish (EventBridge events reference, AWS Step Functions events;
    #: PutEvents).
    source = "aws.states"
    state_changes = frozenset({"Step Functions Execution Status Change"})
    inputs = frozenset({"input", "output"})
    excerpts: Mapping[str, Callable[[object], object]] = {"cause": read_cause}

    def sends(self, event_type: str) -> bool:
        return _CHANGE.fullmatch(event_type) is not None

    def read_state_change(self, detail: Mapping[str, Any]) -> JobDescription | None:
        return read_execution(detail)

    def read_self_report(self, body: Mapping[str, Any]) -> Job | None:  # noqa: ARG002
        return None
