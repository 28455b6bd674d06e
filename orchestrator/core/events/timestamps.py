"""Parses senders' timestamps."""

import re
from datetime import datetime

_LEAP_SECOND = re.compile(r"(:\d\d):60(\.\d+)?(?!\d|:)")


def parse_time(text: str) -> datetime:
    """Parse a time in RFC 3339, or in the more general ISO 8601.

    `t` and `z` may be lower-case (section 5.6). A leap second (section 5.7), which Python can't
    represent, counts as the last microsecond before it.

    Raises:
        ValueError: it is not a time.
    """
    text = text.upper()
    if ":60" in text:
        text = _LEAP_SECOND.sub(r"\1:59.999999", text, count=1)
    return datetime.fromisoformat(text)
