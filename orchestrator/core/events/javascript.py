"""Converts values to text exactly as JavaScript does.

Builds were written against a service in TypeScript, and the control plane verifies signatures over
`JSON.stringify`: both depend on the exact characters. Numbers follow ECMAScript's
Number::toString (by the library rfc8785; RFC 8785 has the same rule).
"""

import json
from collections.abc import Mapping
from decimal import Decimal

import rfc8785

#: Made once: json.dumps makes a new encoder for each text.
_quote = json.JSONEncoder(ensure_ascii=False).encode


def to_text(value: object) -> str:
    """`String(value)` for a scalar, `JSON.stringify(value)` for an object or a list."""
    return value if isinstance(value, str) else stringify(value)


def is_well_formed(text: str) -> bool:
    """`text.isWellFormed()`: no lone surrogate, so that it can be encoded in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def stringify(value: object) -> str:
    """Compact JSON without `\\u` escapes, in the order of the keys.

    Raises:
        TypeError: a value that JSON can't represent.
        ValueError: a number that is not finite (`rfc8785.FloatDomainError`).
    """
    match value:
        case str():
            return _quote(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return rfc8785.dumps(value).decode()
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{value} is not representable in JSON")
            whole = value == value.to_integral_value()
            return str(int(value)) if whole else stringify(float(value))
        case Mapping():
            members = (f"{stringify(str(key))}:{stringify(item)}" for key, item in value.items())
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join(map(stringify, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no JSON form")
