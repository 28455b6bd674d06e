"""Checks that several sections of the settings share."""

import re

from yarl import URL

#: RFC 9110, section 5.6.2.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: A reference without the name of a secret.
NAMELESS = re.compile(r"(secretsmanager|ssm):\s*")


def masked(value: object) -> str:
    """The `repr` of a setting that may hold a secret."""
    return "***" if value else repr(value)


def read_web_address(text: str) -> URL | None:
    """The URL, if it is an absolute one of http or https; else None."""
    try:
        url = URL(text)
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host and " " not in text else None


def is_plain_url(text: str) -> bool:
    """Whether it is a web address without user, password, query and fragment."""
    url = read_web_address(text)
    return url is not None and not (url.user or url.password or url.query_string or url.fragment)


def is_safe_url(text: str) -> bool:
    """Whether it is a plain web address by https, or by http on this host."""
    url = read_web_address(text)
    is_local = url is not None and url.host in ("127.0.0.1", "::1", "localhost")
    return is_plain_url(text) and url is not None and (url.scheme == "https" or is_local)
