"""Reads CodeBuild's state changes, and self-reports of builds."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.adapters.codebuild.builds import CODE_BUILD, read_build
from orchestrator.core.events.payloads import read_job_id
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.record_parts import Job

#: "CodeBuild Build Phase Change", "CodeBuild Fleet State Change" (EventBridge events reference)
#: and similar events, such as those of build batches.
_CHANGE = re.compile(r"CodeBuild .*Change")


class CodeBuildNotifications:
    builder = CODE_BUILD
    #: A source that only AWS can publish (EventBridge events reference, AWS CodeBuild events;
    #: PutEvents).
    source = "aws.codebuild"
    state_changes = frozenset({"CodeBuild Build State Change"})
    inputs = frozenset({"environment-variables"})
    excerpts: Mapping[str, Callable[[object], object]] = {}

    def sends(self, event_type: str) -> bool:
        return _CHANGE.fullmatch(event_type) is not None

    def read_state_change(self, detail: Mapping[str, Any]) -> JobDescription | None:
        return read_build(detail)

    def read_self_report(self, body: Mapping[str, Any]) -> Job | None:
        """Read a self-report; build ids are `project:uuid` (API reference, Build)."""
        build_id = read_job_id(body)
        if build_id is None:
            return None
        return Job(id=build_id, builder=CODE_BUILD, job_identifier=build_id.partition(":")[0])
