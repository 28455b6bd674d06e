"""Which names bear secrets, and values with those masked."""

import json
import re
from collections.abc import Mapping, Sequence
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

    def redact(self, value: Any) -> Any:
        """`value` with masks in place of secrets, at any depth. Numbers are never masked."""
        match value:
            case Mapping():
                return {name: self._redact_named(str(name), item) for name, item in value.items()}
            case list() | tuple():
                return [self.redact(item) for item in value]
            case str() if value[:1] in ("{", "["):
                return self._redact_json(value)
            case _ if attrs.has(type(value)):
                return self.redact(attrs.asdict(value, recurse=False))
        return value

    def _redact_json(self, text: str) -> str:
        """JSON text, such as a build's variable `tenant`, with masks; other text as it is."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        redacted = self.redact(value)
        return text if redacted == value else json.dumps(redacted)

    def _redact_named(self, name: str, value: Any) -> Any:
        if isinstance(value, int | float) or value is None or not self.is_secret(name):
            return self.redact(value)
        return MASK


def _matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    """One expression for all; without any it matches nothing."""
    joined = "|".join(map(translate, patterns)) or r"(?!)"
    return re.compile(joined, re.IGNORECASE)
