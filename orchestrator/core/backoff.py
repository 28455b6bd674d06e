"""Exponential backoff: the pause before a retry."""

_LONGEST_PAUSE_S = 300.0


def doubling_pause_s(first_s: float, earlier: int) -> float:
    """The pause, in seconds, after `earlier` pauses: `first_s`, doubled each time, up to 300."""
    return float(min(_LONGEST_PAUSE_S, first_s * 2 ** min(earlier, 10)))
