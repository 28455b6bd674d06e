"""Parses JSON text: a request's body, a variable `tenant`, a message of a queue, data in Base64.

There is one parser for all of them, so that all refuse the same.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from operator import itemgetter
from typing import Any, Literal, NoReturn

import msgspec

from orchestrator.core.events.javascript import is_well_formed, stringify

#: Maximum nesting; far below Python's recursion limit, also for code that walks a value.
MAX_DEPTH = 100
#: Maximum number of values: each costs the reader some 100 times what it costs the sender. It is a
#: value for every 64 bytes of the largest event that EventBridge delivers, 1 MiB.
MAX_VALUES = 16_384

#: To find numbers that may be too large for a double, all digits of the text are replaced by 0, and
#: it is searched for 309 digits, which the largest double has, or for an exponent. That takes a
#: tenth of the time of a regular expression.
_LONG_INTEGER, _EXPONENT = b"0" * 309, b"0e"
_DIGITS_AS_0 = bytes.maketrans(b"123456789E", b"000000000e")
#: Makes all brackets square, and removes all other bytes.
_AS_ONE_KIND, _NO_BRACKETS = bytes.maketrans(b"{}", b"[]"), bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
#: The types of values that hold no other.
SCALARS = frozenset({str, int, float, bool, type(None)})


def parse_json(
    text: str | bytes, *, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES
) -> Any:
    """Parse a JSON text (RFC 8259), as bytes in UTF-8; a byte order mark is skipped.

    Where RFC 8259 leaves the choice to a parser, this one refuses: more than `max_depth` levels of
    nesting, more than `max_values` values (section 9), a number beyond the range of a double
    (section 6), duplicate names in an object (section 4) and lone surrogates (section 8.2). Depth
    and number of values are known before anything is parsed.

    Raises:
        ValueError: it isn't JSON, or is refused; the message is the reason, as the end of a
            sentence.
    """
    try:
        octets = text.encode("utf-8", "replace") if isinstance(text, str) else text
        text = text.decode() if isinstance(text, bytes) else text
        _check_structure(octets, max_depth, max_values)
        digits = octets.translate(_DIGITS_AS_0)
        may_be_infinite = _EXPONENT in digits or _LONG_INTEGER in digits
        decoder = _CAREFUL_DECODER if may_be_infinite else _DECODER
        value = decoder.decode(text.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    if not is_well_formed(text) or (
        "\\u" in text
        and _SURROGATE.search(text)
        and not is_well_formed(json.dumps(value, ensure_ascii=False))
    ):
        raise ValueError("it has half of a surrogate pair")
    return value


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
            return _finite_number(value)
        case Decimal():
            number = _finite_number(value)
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


def _finite_number(number: Any) -> Any:
    """A number that is finite in JavaScript, too (ECMAScript, Number.isFinite)."""
    try:
        is_finite = math.isfinite(number)
    except (ValueError, OverflowError):  # a signalling NaN, or an integer beyond every float
        is_finite = False
    if not is_finite:
        raise ValueError("it holds a number that is none in JSON: infinite, too large, or NaN")
    return number


def to_json(value: object) -> bytes:
    """A JSON value as compact JSON, in UTF-8.

    A lone surrogate, which UTF-8 has no form for, is kept as Python's `surrogatepass` writes it.

    Raises:
        TypeError: JSON can't represent it.
    """
    return _encode(value, order=None)


def to_json_text(value: object) -> str:
    """A JSON value as compact JSON, for receivers that accept only UTF-8: with a lone surrogate all
    of it is escaped ASCII.

    Raises:
        TypeError: JSON can't represent it.
    """
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))


def to_sorted_json(value: object) -> bytes:
    """The same bytes for equal values: names are sorted."""
    return _encode(value, order="sorted")


def _encode(value: object, *, order: Literal["sorted"] | None) -> bytes:
    try:
        return msgspec.json.encode(value, order=order)
    except UnicodeEncodeError:  # half a surrogate pair
        text = json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), sort_keys=order is not None
        )
        return text.encode("utf-8", "surrogatepass")


def find_no_number(value: object, path: str = "$") -> str | None:
    """The path of the first number in a Python value that JSON doesn't have, such as NaN. The value
    is no deeper than `MAX_DEPTH`. None: there is no such number."""
    match value:
        case int() | float():
            try:
                _finite_number(value)
            except ValueError:
                return path
            return None
        case Mapping():
            items: Iterable[tuple[object, object]] = value.items()
            paths = ((f"{path}.{name}", item) for name, item in items)
        case list() | tuple():
            paths = ((f"{path}[{index}]", item) for index, item in enumerate(value))
        case _:
            return None
    found = (find_no_number(item, place) for place, item in paths)
    return next((one for one in found if one is not None), None)


def kept_size(value: object) -> int:
    """The size in bytes of a value in the ledger: as ASCII JSON, with up to six for a character.

    Raises:
        TypeError: JSON can't represent it.
    """
    return len(json.dumps(value, default=stringify))


def is_deeper(value: object, levels: int) -> bool:
    """Whether a JSON value is nested deeper than so many levels."""
    items: Iterable[object]
    if isinstance(value, list):
        items = value
    elif isinstance(value, dict | Mapping):
        items = value.values()
    else:
        return False
    if levels == 0:
        return True
    # Down first, so that a value which contains itself is found too deep at once.
    for item in items:  # noqa: SIM110 - any() takes twice as long for half a million items
        if type(item) not in SCALARS and is_deeper(item, levels - 1):
            return True
    return False


def has_more_values(value: object, most: int) -> bool:
    """Whether lists and objects hold more than so many values, down to `MAX_DEPTH`."""
    containers, left = [value], most
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for container in containers:
            items = _items_of(container)
            left -= len(items)
            if left < 0:
                return True
            inner += [item for item in items if type(item) not in SCALARS]
        containers = inner
    return False


def _items_of(value: object) -> Collection[object]:
    if isinstance(value, list | tuple):
        return value
    return value.values() if isinstance(value, dict | Mapping) else ()


def _check_structure(octets: bytes, max_depth: int, max_values: int) -> None:
    """Refuse a text for its nesting or its number of values, both counted after its strings are
    removed. A text that isn't JSON may pass: then the decoder refuses it, at no higher cost.

    Raises:
        ValueError: it is nested too deeply, or has too many values.
    """
    openings = octets.count(b"[") + octets.count(b"{")
    if openings <= max_depth and openings + octets.count(b",") < max_values:
        return
    unescaped = octets.replace(rb"\\", b"").replace(rb"\"", b"")
    # A value has at most two strings, its name and itself, of two quotes each.
    if unescaped.count(b'"') > 4 * max_values:
        raise _too_many(max_values)
    structure = b"".join(unescaped.split(b'"')[::2])
    brackets = structure.translate(_AS_ONE_KIND, delete=_NO_BRACKETS)
    # Each value but the outermost follows a comma or a bracket.
    if structure.count(b",") + brackets.count(b"[") >= max_values:
        raise _too_many(max_values)
    for _ in range(max_depth):
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > max_depth:
        raise _too_deep(max_depth)


def _too_many(values: int) -> ValueError:
    return ValueError(f"it has more than {values} values")


def _too_deep(levels: int) -> ValueError:
    return ValueError(f"it is nested more than {levels} levels deep")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        ((name, _),) = Counter(map(itemgetter(0), members)).most_common(1)
        raise ValueError(f"an object has the name {name[:100]!r} twice")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"the number {_shown(number)} is beyond the range of a double")
    return value


def _finite_integer(number: str) -> int:
    _finite(number)
    return int(number)


def _shown(number: str) -> str:
    return number if len(number) <= 20 else f"{number[:20]}… ({len(number)} characters)"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")


#: Made once: json.loads makes a new one for each text. Python's int and float themselves are
#: several times faster than a function.
_DECODER, _CAREFUL_DECODER = (
    json.JSONDecoder(
        parse_constant=_refuse,
        parse_float=parse_float,
        parse_int=parse_int,
        object_pairs_hook=_unique,
    )
    for parse_int, parse_float in ((int, float), (_finite_integer, _finite))
)
