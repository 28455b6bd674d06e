"""JSON that stands in a text: a variable `tenant`, a message of a queue, data in Base64."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from orchestrator.core.javascript import is_well_formed, stringify

#: Levels of nesting; far from Python's recursion limit, whatever is done with a value.
MAX_DEPTH = 100


def parse_json(text: str | bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text (RFC 8259).

    Raises:
        ValueError: it isn't JSON, has a number that JSON doesn't know or half a character, or is
            nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if is_deeper(value, max_depth):
        raise ValueError("it is nested too deeply")
    if "\\u" in str(text) and not is_well_formed(json.dumps(value, ensure_ascii=False)):
        raise ValueError("it has half a character")
    return value


def kept_size(value: object) -> int:
    """Bytes of a value as the ledger keeps it: as JSON in ASCII, where a letter may take six.

    Raises:
        TypeError: JSON has no form for it.
    """
    return len(json.dumps(value, default=stringify))


def is_deeper(value: object, levels: int) -> bool:
    """Whether a JSON value is nested deeper than so many levels."""
    items: Iterable[object]
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, list):
        items = value
    else:
        return False
    return levels == 0 or any(is_deeper(item, levels - 1) for item in items)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")
