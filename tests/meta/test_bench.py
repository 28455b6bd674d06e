"""The benchmarks themselves work; how fast anything is, no test says."""

import asyncio
import sys
from pathlib import Path

from benchmarks.contestants.ours import EMPTY
from benchmarks.events import NUMBER, event_body

ROOT = Path(__file__).parents[2]


async def run(*arguments: str) -> list[str]:
    """The lines that Python prints with these arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode().splitlines()


async def test_the_benchmark_has_a_door() -> None:
    """Its help names the rows, without anything being measured."""
    assert any("durable-lean" in line for line in await run("-m", "benchmarks", "--help"))


def test_events_have_the_size_of_real_ones() -> None:
    """A body of about 1.9 KB, once its number is in it."""
    assert 1700 < len(event_body(EMPTY).replace(NUMBER, "000000001")) < 2100


async def test_the_walk_is_counted() -> None:
    """The files of an event's way are counted, from the first to those of the core."""
    [line] = await run("benchmarks/walk.py")
    assert line.startswith("an event's way: ")
