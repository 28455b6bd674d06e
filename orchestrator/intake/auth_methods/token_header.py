"""Reads the header of a signed token before its signature is checked (RFC 7515, section 4)."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.json_text import parse_json


def decode_segment(segment: str) -> bytes:
    """A segment's bytes; load balancers leave the padding that RFC 7515 omits.

    Raises:
        ValueError: it isn't base64url.
    """
    bare = segment.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def read_header(token: str) -> Mapping[str, Any]:
    """The header's fields, which aren't trusted yet; empty if it can't be parsed."""
    try:
        header = parse_json(decode_segment(token.partition(".")[0]).decode())
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}
