"""Builds the variables of a job: a tier's attributes, overridden by those of the event.

They are JSON values, which every builder can convert to text.
"""

import math
import re
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import structlog

from orchestrator.core.errors import PayloadMismatch, PermanentError, event_mismatch
from orchestrator.core.events.javascript import is_well_formed, stringify
from orchestrator.core.events.json_text import MAX_DEPTH
from orchestrator.core.jobs.tier_catalog import Tier

_LEGAL_NAME = re.compile(r"(?!CODEBUILD_)[A-Za-z_][A-Za-z0-9_]*")

_NAME_RULE = (
    "is no variable name: letters, digits and _, not a digit first, not starting with CODEBUILD_"
)

#: Fields of a body that are passed to a job in another way.
_OWN_FIELDS = frozenset({"tenant", "builderConfig"})
#: Names that shells and tools interpret, which a body's fields must not set: POSIX reserves names
#: in capitals (XBD 8.1), and some tools use others, too.
_STEERS_TOOLS = re.compile(r"[A-Z0-9_]+|TF_VAR_.*|npm_config_.*|.*_proxy")
_RESERVED_NAME = re.compile(r"jobIdentifier|.*JobIdentifier|builder|codebuild")

log = structlog.get_logger("orchestrator.variables")


def build_variables(tier: Tier, override: Mapping[str, Any]) -> dict[str, Any]:
    """The job's variables by name, as JSON values.

    A tier's attribute with an illegal name is left out with a warning, since the tier table may
    serve other purposes, too. Attributes that configure the orchestrator are left out silently.

    Raises:
        PermanentError: an override has an illegal name, or a value can't be passed to a job.
    """
    illegal = {name: _NAME_RULE for name in override if not _LEGAL_NAME.fullmatch(name)}
    if illegal:
        raise _override_error(illegal)
    variables, odd = _split({**_legal(tier, "tier attribute"), **override})
    if of_event := {name: why for name, why in odd.items() if name in override}:
        raise _override_error(of_event)
    if odd:
        raise _attribute_error(odd)
    return variables


def build_field_variables(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body as variables, each under its own name; objects and lists as JSON text.

    Fields with an illegal name, or with one that shells and tools interpret, are left out with a
    warning; those with another meaning (`tenant`, `builderConfig`, and names of tier attributes
    that configure the orchestrator) silently.

    Raises:
        PermanentError: a value can't be passed to a job.
    """
    fields = _legal({name: body[name] for name in body if name not in _OWN_FIELDS}, "field")
    for name in filter(_STEERS_TOOLS.fullmatch, fields):
        log.warning(
            "field left out", attribute=name, reason="shells and tools interpret such a name"
        )
    harmless = {name: fields[name] for name in fields if not _STEERS_TOOLS.fullmatch(name)}
    passed, odd = _split(harmless)
    if odd:
        raise PermanentError(
            "A field can't be passed to a job.",
            errors=[PayloadMismatch(f"$.{name}", why) for name, why in odd.items()],
        )
    # Converted to text, so that no field can be a reference to a secret.
    return {
        name: stringify(value) if isinstance(value, dict | list) else value
        for name, value in passed.items()
    }


def as_variables(params: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that a handler passes to a job, as JSON values.

    Raises:
        PermanentError: a value can't be passed to a job.
    """
    variables, odd = _split(params)
    for name, why in odd.items():
        raise event_mismatch(f"The variable {name} {why}.")
    return variables


def tier_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A tier's `codebuild`, as JSON values.

    Raises:
        PermanentError: a value can't be passed to a builder.
    """
    passed, odd = _split({f"codebuild.{name}": value for name, value in options.items()})
    if odd:
        raise _attribute_error(odd)
    return {name.removeprefix("codebuild."): value for name, value in passed.items()}


def _attribute_error(odd: Mapping[str, str]) -> PermanentError:
    mismatches = [f"attribute {name} {why}" for name, why in odd.items()]
    return PermanentError(
        f"The tier's {mismatches[0]}.",
        errors=[PayloadMismatch("$.planConfig.tier", mismatch) for mismatch in mismatches],
    )


def _override_error(odd: Mapping[str, str]) -> PermanentError:
    return PermanentError(
        "Invalid builder config provided.",
        errors=[
            PayloadMismatch(f"$.builderConfig.config.environmentOverride.{name}", why)
            for name, why in odd.items()
        ],
    )


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that are valid, as JSON values, and the errors of the others."""
    passed, odd = dict[str, Any](), dict[str, str]()
    for name, value in values.items():
        try:
            passed[name] = as_json(value)
        except ValueError as error:
            odd[name] = f"can't be passed to a job: {error}"
    return passed, odd


def as_json(value: Any, *, levels: int = MAX_DEPTH) -> Any:
    """The value as a JSON value, nested at most so many levels deep.

    A date or a time, which TOML and databases have, becomes text in ISO 8601, with Z for UTC.

    Raises:
        ValueError: JSON can't represent it, or something in it; the message says why.
    """
    match value:
        case None | bool():
            return value
        case str():
            return _whole(value)
        case int() | float():
            return _finite(value)
        case Decimal():
            number = _finite(value)
            return int(number) if number == number.to_integral_value() else float(number)
        case date() | time():
            text = value.isoformat()
            return f"{text[:-6]}Z" if text.endswith("+00:00") else text
        case Mapping() if levels:
            return {
                _whole(str(name)): as_json(item, levels=levels - 1) for name, item in value.items()
            }
        case list() | tuple() if levels:
            return [as_json(item, levels=levels - 1) for item in value]
        case Mapping() | list() | tuple():
            raise ValueError("it is nested too deeply")
    kind = type(value).__name__
    raise ValueError(f"it holds a value of the type {kind}, which JSON has no form for: use text")


def _whole(text: str) -> str:
    if not is_well_formed(text):
        raise ValueError("it holds half a character (a lone surrogate)")
    return text


def _finite(number: Any) -> Any:
    """A number that is finite in JavaScript, too (ECMAScript, Number.isFinite)."""
    try:
        is_finite = math.isfinite(number)
    except (ValueError, OverflowError):  # a signalling NaN, or an integer beyond every float
        is_finite = False
    if not is_finite:
        raise ValueError("it holds a number that is none in JSON: infinite, too large, or NaN")
    return number


def _legal(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    passed = {}
    for name, value in values.items():
        if _RESERVED_NAME.fullmatch(name):
            continue
        if _LEGAL_NAME.fullmatch(name):
            passed[name] = value
        else:
            log.warning(f"{what} left out", attribute=name, reason=_NAME_RULE)
    return passed
