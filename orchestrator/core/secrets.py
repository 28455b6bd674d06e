"""Which names bear secrets, and values with those masked."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from typing import Any

import attrs

#: The default of `log.redact`.
SECRET_NAMES = ("secret", "*secret*", "*password*", "*token*", "!*_expiration")

MASK = "***"


class Redactor:
    """Masks the values of secret names.

    `patterns` are shell patterns for names, in any case; one that begins with `!` excepts
    the names that it matches.
    """

    def __init__(self, patterns: Sequence[str] = SECRET_NAMES) -> None:
        self._secret = _matcher([pattern for pattern in patterns if not pattern.startswith("!")])
        self._excepted = _matcher([pattern[1:] for pattern in patterns if pattern.startswith("!")])

    def is_secret(self, name: str) -> bool:
        return bool(self._secret.fullmatch(name)) and not self._excepted.fullmatch(name)

    def hides(self, name: str, value: Any) -> bool:
        """Whether anything of a value of that name would be masked."""
        named = {name: value}
        return bool(self.redact(named) != named)

    def redact(self, value: Any) -> Any:
        """`value` with masks in place of secrets, at any depth. Numbers are never masked."""
        return self._walk(value, lambda name: {name: MASK})

    def leave_out(self, value: Any) -> Any:
        """`value` without what `redact` would mask."""
        return self._walk(value, lambda _: {})

    def _walk(self, value: Any, hide: Callable[[str], Mapping[str, Any]]) -> Any:
        match value:
            case Mapping():
                shown: dict[str, Any] = {}
                for name, item in value.items():
                    is_hidden = self._is_hidden(str(name), item)
                    shown |= hide(name) if is_hidden else {name: self._walk(item, hide)}
                return shown
            case list():
                return [self._walk(item, hide) for item in value]
            case tuple():
                return tuple(self._walk(item, hide) for item in value)
            case str() if value.lstrip()[:1] in ("{", "["):
                return self._walk_json(value, hide)
            case _ if attrs.has(type(value)):
                return self._walk(attrs.asdict(value, recurse=False), hide)
        return value

    def _walk_json(self, text: str, hide: Callable[[str], Mapping[str, Any]]) -> str:
        """JSON text, such as a build's variable `tenant`; other text stays as it is."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        shown = self._walk(value, hide)
        return text if shown == value else json.dumps(shown)

    def _is_hidden(self, name: str, value: Any) -> bool:
        return not isinstance(value, int | float | None) and self.is_secret(name)


def _matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    """One expression for all; without any it matches nothing."""
    joined = "|".join(map(translate, patterns)) or r"(?!)"
    return re.compile(joined, re.IGNORECASE)
