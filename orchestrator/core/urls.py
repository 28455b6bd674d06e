"""URLs: their origins, which decide where a report may be posted, and how a person sees them.

A URL may hold credentials: in its userinfo (`https://user:password@host`) or in its query.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import quote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LARGEST_PORT = 65535
#: Scheme, host and port of a URL whose authority all parsers read alike: without userinfo,
#: backslash, escape or character beyond ASCII, and with the host in lower or upper case.
_ORIGIN = re.compile(
    r"""
    (?P<scheme>https?)://
    (?P<host> [a-z0-9_] [a-z0-9_-]* (\.[a-z0-9_-]+)* | \[ (?P<ipv6>[0-9a-f:.]+) \] )
    (: (?P<port>[1-9][0-9]{0,4}) )?
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
#: Userinfo of a URL in any text, also in one that is escaped as JSON (RFC 3986, section 3.2).
_USERINFO = re.compile(r'(?<=://)(?:(?:[^\s/?#"\\@]++|\\.)*+@)++')


def read_origin(url: str) -> str | None:
    """The origin of an http(s) URL, always with its port: `https://control.example:443`.

    Hosts are compared as they are written, in any case: no name is resolved, `localhost.` isn't
    `localhost`, and a number such as `2130706433` isn't an IP address. None if the URL isn't
    http(s), or if parsers of URLs could read its host differently.
    """
    found = _ORIGIN.match(url)
    if found is None or url[found.end() : found.end() + 1] not in ("", "/", "?", "#"):
        return None
    scheme, host = found["scheme"].lower(), found["host"].lower()
    if found["ipv6"]:
        try:
            host = f"[{IPv6Address(found['ipv6']).compressed}]"
        except AddressValueError:
            return None
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    return f"{scheme}://{host}:{port}" if port <= _LARGEST_PORT else None


def parse_origin(text: str) -> str:
    """The origin that an operator wrote; https if it has no scheme.

    Raises:
        ValueError: it isn't an origin; the message shows no userinfo.
    """
    url = text if "://" in text else f"https://{text}"
    origin = read_origin(url)
    found = _ORIGIN.fullmatch(url)
    if origin is None or found is None:
        raise ValueError(
            f"{shown_url(text)!r} is no origin: write https://HOST, https://HOST:PORT or, without "
            "TLS, http://HOST:PORT; no user, path, query or wildcard, and a name beyond ASCII in "
            "its form xn--..."
        )
    return origin


def shown_url(url: str) -> str:
    """The URL as logs, reasons and answers show it: without userinfo, query and fragment."""
    address = re.split(r"[?#]", url, maxsplit=1)[0]
    before, separator, after = address.partition("://")
    scheme, rest = (before + separator, after) if separator else ("", address)
    authority, slash, path = rest.partition("/")
    return f"{scheme}{authority.rpartition('@')[2]}{slash}{path}"


def path_segment(text: str) -> str:
    """Any text as one segment of a URL's path. Dots alone are escaped, too: `..` would be a step up
    (RFC 3986, section 5.2.4)."""
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")


def encoded_path(path: str) -> str:
    """A path with all that is invalid in a URL percent-encoded; encoded parts are unchanged."""
    return quote(path, safe="/%:@!$&'()*+,;=~", errors="replace")


def without_userinfo(text: str) -> str:
    """A text without the userinfo of the URLs in it."""
    return _USERINFO.sub("", text) if "://" in text and "@" in text else text


def web_address(value: object) -> str | None:
    """The value if it is an http(s) URL that a page may safely link to, else None."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.hostname else None


def web_link(value: object) -> str | None:
    """A link to a log: `web_address` without userinfo, but with all else that opens it."""
    address = web_address(value)
    return None if address is None else without_userinfo(address)
