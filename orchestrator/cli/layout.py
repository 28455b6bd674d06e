"""Lays out fields and tables as lines of text; `terminal.py` prints them.

Widths are in characters; None: no limit, for a pipe or a file.
"""

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from orchestrator.core.texts import printable

#: Two runs with the same first 8 of 40 hexadecimal digits: 1 in 100,000 among 300.
_SHORT_ID = 8
_GAP = "  "
#: How narrow a cell may become.
_LEAST = 8
#: How many lines of a reason a list shows.
_MOST_LINES = 3


@attrs.frozen
class Row:
    """The cells of a row by their headings, and texts to show below it."""

    cells: Mapping[str, str]
    below: Sequence[str] = ()


def short_id(text: str | None) -> str:
    """The beginning of an id, which the commands accept in its place."""
    return text[:_SHORT_ID] if text else "-"


def show_time(moment: str | None) -> str:
    """A time of the API in UTC, to the second, as `--since` takes it."""
    if moment is None:
        return "-"
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show_duration(seconds: float) -> str:
    """Whole seconds, with minutes, hours and days: 1 h 5 min."""
    whole = int(seconds)
    parts = [
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    ]
    units = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(units[:2]) or "0 s"


def fields(values: Mapping[str, object], *, width: int | None, margin: int = 0) -> list[str]:
    """A line for each field, its value wrapped; one that is None or empty is left out."""
    known = {name: str(value) for name, value in values.items() if value not in (None, "")}
    column = margin + max(map(len, known), default=0) + len(_GAP)
    return [
        line
        for name, value in known.items()
        for line in wrap(value, width=width, margin=column, heading=" " * margin + name)
    ]


def wrap(
    text: str, *, width: int | None, margin: int = 0, heading: str = "", most: int | None = None
) -> list[str]:
    """A text in lines behind a margin, in which the first line has a heading.

    Links stay whole. Of more than `most` lines the rest is replaced by an ellipsis.
    """
    shown = printable(text)
    lines = [shown]
    if width is not None:
        lines = textwrap.wrap(
            shown,
            max(width - margin, _LEAST),
            break_long_words=False,
            break_on_hyphens=False,
            max_lines=most,
            placeholder=" …",
        )
    first, *others = lines or [""]
    return [f"{heading:<{margin}}{first}", *(f"{'':{margin}}{line}" for line in others)]


def table(
    rows: Sequence[Row], *, width: int | None, narrow: Sequence[str] = (), margin: int = 0
) -> list[str]:
    """Rows below their headings; the columns `narrow` are cut, in this order, to fit the width."""
    if not rows:
        return []
    headings = list(rows[0].cells)
    cells = [{name: printable(row.cells[name]) for name in headings} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in headings}
    excess = 0 if width is None else margin + _total(widths) - width
    for name in narrow:
        cut = min(max(excess, 0), max(widths[name] - max(_LEAST, len(name)), 0))
        widths[name] -= cut
        excess -= cut
    lines = [_line(dict(zip(headings, headings, strict=True)), widths, margin)]
    # The texts below a row begin under its second column.
    below = margin + widths[headings[0]] + len(_GAP)
    for row, shown in zip(rows, cells, strict=True):
        lines.append(_line(shown, widths, margin))
        for text in row.below:
            lines += wrap(text, width=width, margin=below, most=_MOST_LINES)
    return lines


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _line(cells: Mapping[str, str], widths: Mapping[str, int], margin: int) -> str:
    shown = (f"{_cut(text, widths[name]):<{widths[name]}}" for name, text in cells.items())
    return (" " * margin + _GAP.join(shown)).rstrip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
