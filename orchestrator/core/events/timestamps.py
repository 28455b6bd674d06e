"""Times as senders write them."""

import re
from datetime import datetime

_LEAP_SECOND = re.compile(r"(:\d\d):60(\.\d+)?(?!\d|:)")


def parse_time(text: str) -> datetime:
    """The time in a text of RFC 3339, or of its wider relative ISO 8601.

    `t` and `z` may be small (section 5.6). A leap second (section 5.7), which Python has no time
    for, counts as the last microsecond before it.

    Raises:
        ValueError: it is no time.
    """
    return datetime.fromisoformat(_LEAP_SECOND.sub(r"\1:59.999999", text.upper(), count=1))
