"""The results as a table, a page of docs/, a picture and JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version

import attrs

from benchmarks.load import ROOT
from benchmarks.measure import Noise
from benchmarks.profiled import Profile
from benchmarks.results import Result
from benchmarks.rows import ROWS
from benchmarks.servers import BENCH_PYTHON

LATEST = ROOT / "benchmarks" / "results" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.svg"
BEGIN, END = (
    "<!-- Written by make bench-full: begin -->\n",
    "<!-- Written by make bench-full: end -->\n",
)

_OURS = ("aiohttp", "aioboto3", "aiobotocore", "botocore", "msgspec")
_THEIRS = ("fastapi", "uvicorn", "uvloop", "pydantic")


@attrs.frozen(kw_only=True)
class Circumstances:
    day: str
    machine: str
    versions: str
    length: str
    noise: str

    @classmethod
    def now(cls, *, rounds: int, noise: Sequence[Noise]) -> "Circumstances":
        ours = {name: version(name) for name in _OURS}
        code = f"from importlib.metadata import version as v; print(*map(v, {_THEIRS!r}))"
        theirs = subprocess.run(
            [BENCH_PYTHON, "-c", code], capture_output=True, check=True, text=True
        ).stdout.split()
        versions = {**ours, **dict(zip(_THEIRS, theirs, strict=True))}
        processors = len(os.sched_getaffinity(0))
        worst = max(noise, key=lambda one: one.spread + one.stolen)
        return cls(
            day=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=f"{platform.system()} {platform.machine()}, {processors} processors",
            versions=", ".join(
                [f"Python {platform.python_version()}", *(f"{n} {v}" for n, v in versions.items())]
            ),
            length=f"median of {rounds} interleaved rounds",
            noise=str(worst),
        )

    def __str__(self) -> str:
        return f"{self.day}, {self.machine}; {self.versions}; {self.length}; {self.noise}."


def as_table(results: Sequence[Result]) -> Iterator[str]:
    yield f"{'row':<14} {'ratio':>7} {'goal':>8}  {'rounds':<15} {'holds':<6} measured"
    for one in results:
        yield (
            f"{one.name:<14} {_ratio(one):>7} {_goal(one):>8}  {_rounds(one):<15} "
            f"{_holds(one):<6} {one.note}"
        )


def as_markdown(
    results: Sequence[Result], profiles: Sequence[Profile], about: Circumstances
) -> str:
    lines = [
        f"{about}\n",
        "![Each row's ratio, as a share of its goal](performance.svg)\n",
        "| row | work | against | ratio | goal | moonshot | rounds | holds | measured |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        row = ROWS[one.name]
        cells = (
            *(one.name, row.work, row.against, _ratio(one), _goal(one)),
            *(f"{row.moonshot:g}" if row.moonshot else "-", _rounds(one)),
            *(_holds(one), one.note),
        )
        lines.append(f"| {' | '.join(cells)} |")
    for profile in profiles:
        lines += [
            f"\n**Profile of `{profile.name}`**\n",
            "```text",
            *profile.as_text(top=15),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _ratio(one: Result) -> str:
    return "-" if one.ratio is None else f"{one.ratio:.2f}"


def _goal(one: Result) -> str:
    return f"{'>=' if ROWS[one.name].at_least else '<='} {one.goal:g}"


def _rounds(one: Result) -> str:
    return "-" if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}"


def _holds(one: Result) -> str:
    return "yes" if one.holds else "no"


def write_latest(results: Sequence[Result]) -> None:
    rows = [
        {"name": one.name, "ratio": one.ratio, "goal": one.goal, "holds": one.holds}
        for one in results
    ]
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(rows, indent=2) + "\n")


def write_page(
    results: Sequence[Result], profiles: Sequence[Profile], about: Circumstances
) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + as_markdown(results, profiles, about) + END + after)
    PICTURE.write_text(as_picture(results, about))


_BAR, _LEFT, _WIDTH, _LINE = 18, 130, 640, 30


def as_picture(results: Sequence[Result], about: Circumstances) -> str:
    """A bar for each row: how much of its goal it uses; the line is the goal."""
    height = 90 + _LINE * len(results)
    scale = (_WIDTH - _LEFT - 160) / 2  # up to twice the goal
    goal_at = _LEFT + scale
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="12" role="img">'
        ),
        "<title>Each row's ratio, as a share of its goal</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        (
            '<text x="10" y="22" font-size="14" font-weight="bold">'
            "Ratio as a share of its goal: left of the line it holds</text>"
        ),
        f'<text x="10" y="40" fill="#555555">{escape(f"{about.day}, {about.length}")}</text>',
    ]
    for number, one in enumerate(results):
        y = 60 + number * _LINE
        text = "not available"
        if one.ratio is not None:
            share = one.goal / one.ratio if ROWS[one.name].at_least else one.ratio / one.goal
            color = "#2e7d32" if one.holds else "#c62828"
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{min(share, 2) * scale:.0f}" '
                f'height="{_BAR}" fill="{color}"/>'
            )
            text = f"{_ratio(one)} (goal {_goal(one)})"
        parts.append(f'<text x="10" y="{y + 13}">{escape(one.name)}</text>')
        parts.append(f'<text x="{_WIDTH - 150}" y="{y + 13}">{escape(text)}</text>')
    parts.append(
        f'<line x1="{goal_at:.0f}" y1="52" x2="{goal_at:.0f}" y2="{height - 22}" '
        'stroke="#000000" stroke-dasharray="4 3"/>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
