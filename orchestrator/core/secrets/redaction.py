"""Recognizes secrets by name, and masks their values."""

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import translate
from functools import lru_cache
from typing import Any

import attrs

from orchestrator.core.events.json_text import MAX_DEPTH, MAX_VALUES, parse_json
from orchestrator.core.urls import without_userinfo

#: The default of `log.redact`. `?` is any one character: `api_key`, `api-key`; `apiKey` has none.
SECRET_NAMES = (
    "secret",
    "*secret*",
    "*password*",
    "*passwd*",
    "*pwd*",
    "*token*",
    "*api?key*",
    "*apikey*",
    "*private?key*",
    "*privatekey*",
    "*authorization*",
    "*credential*",
    "!*_expiration",
)

MASK = "***"

#: Levels that are searched, including those of JSON in texts: all of an event's, and some more for
#: the log fields around it.
_MAX_LEVELS = MAX_DEPTH + 20
#: How many levels of JSON in strings are searched; each is parsed again, however large it is.
_MAX_TEXTS = 5
#: How many strings in a value are searched for JSON; those beyond that begin like JSON are masked.
_MOST_TEXTS = 1000
#: How many names are checked in all strings of a value that begin like JSON and can't be parsed.
_MOST_NAMES = 10_000
#: The maximum total length of such strings, in characters.
_MOST_CHARACTERS = 262_144
#: The names of a larger object are searched together.
_FEW_NAMES = 4

_ESCAPE = re.compile(r"(?<!\\)\\+u([0-9a-fA-F]{4})")
#: A possible name in text that resembles JSON, the text that follows a name, and a name in quotes,
#: which may contain anything. White space may have been an escape before backslashes were removed;
#: each part of a name with brackets is a name. A match may begin only at a name's first character:
#: if it could begin at any, a long text would take hours.
_NAME = re.compile(r"""(?<![^"'{}\[\],:=])[^"'{}\[\],:=]++(?=["'\])}]*[\snrt]*[:=])""")
_QUOTED_NAME = re.compile(r"""(["'])([^"']*)\1(?=[\snrt]*[:=])""")
#: The fields of `_PAIRS` in such text: a name, which may be in quotes, and whether it has values.
_NAME_IN_PAIR = re.compile(
    r"""(?<!\w)(?:[nN]ame|[kK]ey)["']?[\snrt]*[:=](?:[\snrt]*["']([^"']*)|([^"'{}\[\],:=]+))"""
)
_VALUE_IN_PAIR = re.compile(r"""(?<!\w)[vV]alue["']?[\snrt]*[:=]""")
#: Where JSON may begin in a text: with a quote only if nothing else stands before it.
_BEGINNING = re.compile(r"""\A[\ufeff \t\r\n]*"|[{\[]""")
_MAY_BE_JSON = re.compile(r"""[{\["]""")
#: The fields of a name and its value where an object has one of many, such as a variable, a header
#: or a tag.
_PAIRS = (("name", "value"), ("Name", "Value"), ("key", "value"), ("Key", "Value"))
#: The types of values that are never masked.
_PLAIN = frozenset({int, float, bool, type(None)})
#: The types whose number of values is known.
_SIZED = frozenset({dict, list, tuple, set, frozenset})
#: Up to this length the answer whether a name is a secret's is cached.
_COMMON_NAME = 64
_BLANK = "\ufeff \t\r\n"


class Redactor:
    """Masks the values of secret names.

    `patterns` are case-insensitive shell patterns for names; one that begins with `!` excludes the
    names that it matches.

    The value of a pair, `{"name": "DB_PASSWORD", "value": "..."}`, has the name beside it.

    It never raises, and always ends. JSON in text is searched if `parse_json` accepts it, also
    after other text. Text that begins like JSON and can't be parsed (cut off, nested too deeply, or
    with something after it) is unchanged unless it has a secret name in a pair, or followed by `:`
    or `=`: then all of it is masked. So is each text that begins like JSON after a thousand of
    them, and a value that raises when it is read, contains itself, or is nested deeper than any
    event. Beyond `max_values`, more than a body of 1 MiB has, the rest is left out.

    A sender chooses how many names and texts there are: all JSON texts of a value together are
    parsed for at most as many values as one body may have, and in those that can't be parsed 10,000
    names, in 262,144 characters, are checked. A text beyond that is masked if a secret's name is
    anywhere in it.
    """

    def __init__(
        self, patterns: Sequence[str] = SECRET_NAMES, *, max_values: int = 1_000_000
    ) -> None:
        self.max_values = max_values
        #: Cached, for the names of log lines, which are often the same.
        self._is_known_secret = lru_cache(maxsize=1024)(self.is_secret)
        self._secret = _matcher([pattern for pattern in patterns if not pattern.startswith("!")])
        self._excepted = _matcher([pattern[1:] for pattern in patterns if pattern.startswith("!")])
        #: Matches each text that has a secret name in one of its lines, and some others.
        self._secret_in_lines = re.compile(
            "|".join(_within_a_line(one) for one in patterns if not one.startswith("!")) or r"(?!)"
        )

    def is_secret(self, name: str) -> bool:
        folded = name.casefold()
        return bool(self._secret.search(folded)) and not self._excepted.search(folded)

    def secret_names(self, names: Collection[str]) -> set[str]:
        """The names among `names` that are secrets': all are searched in one text first, and one by
        one only if it has a match."""
        joined = "\n".join(names).casefold()
        lines = joined.split("\n")
        if len(lines) != len(names):  # one of them has several lines
            return set(filter(self.is_secret, names))
        if not self._secret_in_lines.search(joined):
            return set()
        is_secret, is_excepted = self._secret.search, self._excepted.search
        return {
            name
            for name, folded in zip(names, lines, strict=True)
            if is_secret(folded) and not is_excepted(folded)
        }

    def is_plain(self, name: str, value: Any) -> bool:
        """Whether a quick check shows that `redact` leaves a value of that name unchanged."""
        if type(value) is str:
            is_searched = "://" in value or _MAY_BE_JSON.search(value) is not None
            is_secret = self._is_known_secret if len(name) <= _COMMON_NAME else self.is_secret
            return not is_searched and not is_secret(name)
        return type(value) in _PLAIN

    def hides(self, name: str, value: Any) -> bool:
        """Whether anything of a value of that name would be masked."""
        walk = _Walk(self, MASK)
        walk.show({name: value})
        return walk.has_hidden

    def redact(self, value: Any) -> Any:
        """`value` with masks in place of secrets, at any depth, and URLs without userinfo. Numbers
        are never masked."""
        return _Walk(self, MASK).show(value)

    def leave_out(self, value: Any) -> Any:
        """`value` without what `redact` would mask."""
        return _Walk(self, _NOTHING).show(value)

    def may_name_secret(self, text: str) -> bool:
        """Whether text that resembles JSON has a secret name, at any level of escaping."""
        plain = _unescaped(text)
        if not self._is_mentioned(plain):
            return False  # at a tenth of the cost
        return _has_escapes(plain) or bool(self.secret_names(set(_names(plain))))

    def may_mention_secret(self, text: str) -> bool:
        """Whether a secret's name is anywhere in a text: a cheaper, less exact check."""
        return self._is_mentioned(_unescaped(text))

    def _is_mentioned(self, plain: str) -> bool:
        if _has_escapes(plain):
            return True  # an escape made of escapes: likely to hide something
        in_one_line = plain.replace("\\", "").replace("\n", " ").casefold()
        return self._secret_in_lines.search(in_one_line) is not None


#: Used instead of a mask where secrets are left out.
_NOTHING = object()


class _Walk:
    """One pass over a value, which replaces secrets by `mask`."""

    def __init__(self, redactor: Redactor, mask: object) -> None:
        self.has_hidden = False
        self._redactor = redactor
        self._mask = mask
        self._values_left = redactor.max_values
        self._levels_left = _MAX_LEVELS
        self._texts_left = _MAX_TEXTS
        self._searches_left = _MOST_TEXTS
        self._parsed_left = MAX_VALUES
        self._names_left = _MOST_NAMES
        self._characters_left = _MOST_CHARACTERS
        self._within: set[int] = set()
        self._is_secret = _Remembered(redactor.is_secret)

    def show(self, value: Any) -> Any:
        shown = self._show(value)
        return None if shown is _NOTHING else shown

    def _show(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return value if _has_no_names(value) else self._show_text(value)
        if kind in _PLAIN:
            return value
        if not self._levels_left or id(value) in self._within:
            return self._hide()
        self._within.add(id(value))
        self._levels_left -= 1
        try:
            return self._show_items(value) if kind is list else self._show_within(value)
        except Exception:  # noqa: BLE001 - anything is logged: any property, any iterator may raise
            return self._hide()
        finally:
            self._levels_left += 1
            self._within.discard(id(value))

    def _show_within(self, value: Any) -> Any:
        match value:
            case dict() | Mapping():
                return self._show_object(value)
            case list():
                return self._show_items(value)
            case str():
                return self._show_text(value)
            case tuple():
                return tuple(self._show_items(value))
            case AbstractSet():
                return self._show_items(value)
            case bytes() | bytearray():
                text = value.decode(errors="replace")
                shown = self._show_text(text)
                return value if shown is text else shown
        fields = _fields(type(value))
        if fields is None:
            return value
        members = [(name, getattr(value, name)) for name in fields]
        return self._show_members(members, self._is_secret.__getitem__)

    def _show_object(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        beside = self._beside_secret_name(value)
        is_secret: Callable[[str], bool] = self._is_secret.__getitem__
        if type(value) is dict and len(value) > _FEW_NAMES:
            is_secret = self._redactor.secret_names([*map(str, value)]).__contains__
        members = self._within_limit(value.items(), value)
        return self._show_members(
            members, (lambda name: name == beside or is_secret(name)) if beside else is_secret
        )

    def _beside_secret_name(self, value: Mapping[Any, Any]) -> str | None:
        """The field with the value of a pair that names a secret."""
        for name, beside in _PAIRS:
            named = value.get(name)
            if type(named) is str and beside in value and self._redactor.is_secret(named):
                return beside
        return None

    def _show_members(
        self, members: Iterable[tuple[Any, Any]], is_secret: Callable[[str], bool]
    ) -> dict[Any, Any]:
        shown = {}
        for name, item in members:
            if type(item) in _PLAIN:
                shown[name] = item
                continue
            is_named = is_secret(name if type(name) is str else str(name))
            is_hidden = is_named and not isinstance(item, int | float)
            one = self._hide() if is_hidden else self._show(item)
            if one is not _NOTHING:
                shown[name] = one
        return shown

    def _show_items(self, items: Iterable[Any]) -> list[Any]:
        shown = []
        for item in self._within_limit(items, items):
            one = self._show(item)
            if one is not _NOTHING:
                shown.append(one)
        return shown

    def _within_limit(self, items: Iterable[Any], container: Any) -> Iterable[Any]:
        """The items of a container, as long as there may be more values."""
        if type(container) in _SIZED and len(container) <= self._values_left:
            self._values_left -= len(container)
            return items
        return self._counted(items)

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            if self._values_left <= 0:
                self._hide()
                return
            self._values_left -= 1
            yield item

    def _show_text(self, text: str) -> Any:
        """Mask JSON text, such as a build's variable `tenant`, also behind other text."""
        beginning = _BEGINNING.search(text)
        if beginning is None or _has_no_names(text):
            return self._for_people(text)
        start = beginning.start()
        json_text = text[start:]
        shown = self._show_json(json_text)
        if shown is json_text:
            return self._for_people(text)
        if not isinstance(shown, str):
            return shown
        before = text[:start]
        return self._for_people(before + shown if before.strip(_BLANK) else shown)

    def _for_people(self, text: str) -> str:
        return without_userinfo(text) if self._mask is MASK else text

    def _show_json(self, text: str) -> Any:
        self._searches_left -= 1
        if self._searches_left < 0:
            return self._hide()
        try:
            value = self._parse(text)
        except ValueError:
            return self._hide() if self._may_name_secret(text) else text
        had_hidden, self.has_hidden = self.has_hidden, False
        values_before = self._values_left
        self._texts_left -= 1
        shown = self.show(value)
        self._texts_left += 1
        self._parsed_left -= values_before - self._values_left
        is_same, self.has_hidden = not self.has_hidden, self.has_hidden or had_hidden
        return text if is_same else json.dumps(shown)

    def _parse(self, text: str) -> Any:
        if not self._texts_left:
            raise ValueError("it is a text within too many texts")
        return parse_json(text, max_values=self._parsed_left)

    def _may_name_secret(self, text: str) -> bool:
        self._names_left -= text.count(":") + text.count("=")
        self._characters_left -= len(text)
        if self._names_left < 0 or self._characters_left < 0:
            return self._redactor.may_mention_secret(text)
        return self._redactor.may_name_secret(text)

    def _hide(self) -> object:
        self.has_hidden = True
        return self._mask


class _Remembered(dict[str, bool]):
    """Whether a name is a secret's, determined once for each name."""

    def __init__(self, is_secret: Callable[[str], bool]) -> None:
        self._ask = is_secret

    def __missing__(self, name: str) -> bool:
        self[name] = answer = self._ask(name)
        return answer


def _has_no_names(text: str) -> bool:
    # What follows a name may be escaped (RFC 8259, section 7).
    return ":" not in text and "=" not in text and "\\u00" not in text


def _has_escapes(text: str) -> bool:
    return "\\u" in text and _ESCAPE.search(text) is not None


def _unescaped(text: str) -> str:
    if "\\u" not in text:
        return text  # at a thousandth of the cost
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def _names(text: str) -> Iterator[str]:
    text = text.replace("\\", "")
    for found in _NAME.finditer(text):
        name = found[0].strip()
        yield name
        yield from name.split()[-1:]
    for quoted in _QUOTED_NAME.finditer(text):
        yield quoted[2]
    if "alue" in text and _VALUE_IN_PAIR.search(text):
        for named in _NAME_IN_PAIR.finditer(text):
            yield (named[1] or named[2] or "").strip()


def _fields(model: Any) -> list[str] | None:
    """The names of the fields of an attrs class or a dataclass; None if it is neither."""
    if attrs.has(model):
        return [field.name for field in attrs.fields(model)]
    if dataclasses.is_dataclass(model):
        return [field.name for field in dataclasses.fields(model)]
    return None


def _matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    """One regular expression that matches the case-folded names which any of the patterns matches;
    without patterns it matches none."""
    return re.compile("|".join(map(_expression, patterns)) or r"(?!)")


def _within_a_line(pattern: str) -> str:
    """Such an expression of one pattern, without anchors, for a text with a name on each line."""
    return _core(pattern.casefold()).replace("(?s:", "(?:")


def _core(folded: str) -> str:
    return re.sub(r"\\[Zz]$", "", translate(folded.strip("*")))


def _expression(pattern: str) -> str:
    """A shell pattern as a regular expression for `search`. An asterisk at an end becomes a missing
    anchor instead of `.*`, so that a long name is read once for all patterns."""
    folded = pattern.casefold()
    core = _core(folded)
    begin = "" if folded.startswith("*") else r"\A"
    end = "" if folded.endswith("*") else r"\Z"
    return f"{begin}{core}{end}"
