"""The variables that a job gets: a tier's attributes, overlaid by what the event overrides."""

import re
from collections.abc import Mapping
from typing import Any

import structlog

from orchestrator.core.errors import PayloadMismatch, PermanentError
from orchestrator.core.ports import Tier

#: The variable that every job gets: the key of the start that made it.
START_KEY = "ORCHESTRATOR_RUN_ID"
#: The variable with the trace that the job belongs to (https://www.w3.org/TR/trace-context/).
TRACEPARENT = "TRACEPARENT"

_LEGAL_NAME = re.compile(r"(?!CODEBUILD_)[A-Za-z_][A-Za-z0-9_]*")
_NAME_RULE = (
    "is no variable name: letters, digits and _, not a digit first, not starting with CODEBUILD_"
)
_RESERVED_NAME = re.compile(r"jobIdentifier|.*JobIdentifier|builder|codebuild")

log = structlog.get_logger("orchestrator.variables")


def build_variables(tier: Tier, override: Mapping[str, Any]) -> dict[str, Any]:
    """The job's variables by name.

    A tier's attribute with an illegal name is left out with a warning: it was there
    before us and the tier serves other purposes. Attributes that steer the orchestrator
    stay out silently.

    Raises:
        PermanentError: an override has an illegal name.
    """
    illegal = [name for name in override if not _LEGAL_NAME.fullmatch(name)]
    if illegal:
        raise PermanentError(
            "Invalid builder config provided.",
            errors=[
                PayloadMismatch(f"$.builderConfig.config.environmentOverride.{name}", _NAME_RULE)
                for name in illegal
            ],
        )
    return {**_tier_variables(tier), **override}


def _tier_variables(tier: Tier) -> dict[str, Any]:
    passed = {}
    for name, value in tier.items():
        if _RESERVED_NAME.fullmatch(name):
            continue
        if _LEGAL_NAME.fullmatch(name):
            passed[name] = value
        else:
            log.warning("tier attribute left out", attribute=name, reason=_NAME_RULE)
    return passed


def is_reference(value: Any) -> bool:
    """What a builder resolves by itself: `{"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value"}`
    and nothing besides."""
    match value:
        case {"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value": str()}:
            return bool(len(value) == 2)
    return False
