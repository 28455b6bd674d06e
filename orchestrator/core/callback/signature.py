"""Signs reports for the control plane's webhook.

The receiver parses the body, serializes it again with `JSON.stringify` and signs that text, so
the body must be the exact text that JavaScript would print: a value that Python and JavaScript may
print differently is refused before it is sent.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from orchestrator.core.events.javascript import is_well_formed, stringify

#: JavaScript's Number.MAX_SAFE_INTEGER (ECMAScript, 21.1.2.6).
_LARGEST_INTEGER = 2**53 - 1
#: JavaScript moves such keys to the front (ECMAScript, 10.1.11, OrdinaryOwnPropertyKeys).
_INTEGER_LIKE = re.compile(r"0|[1-9][0-9]*")


@attrs.frozen
class SignedRequest:
    """A signed request; valid as long as the receiver's clock tolerates (20 s)."""

    text: str
    headers: Mapping[str, str] = attrs.field(repr=False)


def sign_request(
    body: Mapping[str, Any], *, secret: str, context: str, now: datetime
) -> SignedRequest:
    """The body as text, with the headers of its signature.

    `x-signature` is the lowercase hexadecimal HMAC-SHA256 of text + context + timestamp under
    the secret's UTF-8 bytes; `x-timestamp` is `now` in milliseconds since 1970.

    Raises:
        ValueError: JavaScript would, or might, print the body differently, or secret or context
            can't be encoded; the message says where, without the secret.
    """
    text = signable_text(body)
    _check_text(secret, "the secret")
    _check_text(context, "the context")
    timestamp = str(round(now.timestamp() * 1000))
    message = f"{text}{context}{timestamp}".encode()
    signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "x-signature": signature,
        "x-timestamp": timestamp,
    }
    return SignedRequest(text, headers)


def signable_text(value: object) -> str:
    """`JSON.stringify(value)`, for values that JavaScript always prints in the same way.

    Those are text, integers up to 2**53 - 1, true, false, null, lists, and objects without keys
    that look like an integer.

    Raises:
        ValueError: it contains anything else.
    """
    _check(value, "$")
    return stringify(value)


def _check(value: object, path: str) -> None:
    match value:
        case None | bool():
            return
        case str():
            _check_text(value, path)
        case int():
            if abs(value) > _LARGEST_INTEGER:
                raise ValueError(f"{path} is {value}, which JavaScript can't hold: send it as text")
        case Mapping():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueError(  # noqa: TRY004 - a value of the body's
                        f"{path} has the key {key!r}, which is no text"
                    )
                _check_text(key, path)
                if _INTEGER_LIKE.fullmatch(key):
                    raise ValueError(f"{path} has the key {key!r}: JavaScript puts it elsewhere")
                _check(item, f"{path}.{key}")
        case list() | tuple():
            for index, item in enumerate(value):
                _check(item, f"{path}[{index}]")
        case float():
            raise ValueError(f"{path} is {value!r}, no integer: send it as text")
        case _:
            raise ValueError(f"{path} is of type {type(value).__name__}, which JSON doesn't have")


def _check_text(text: str, path: str) -> None:
    if not is_well_formed(text):
        raise ValueError(f"{path} has half a character (a lone surrogate)")
