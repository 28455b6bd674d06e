"""The benchmarks themselves work; how fast anything is, no test says."""

import asyncio
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


async def run(script: str) -> list[str]:
    """The lines that it prints, with a single event a round."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BENCHMARKS / script),
        "1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode().splitlines()


async def test_the_benchmark_measures_each_path() -> None:
    """With a single event a round it prints a ratio for each of its lines."""
    assert len(await run("bench.py")) == 3


async def test_the_walk_is_counted() -> None:
    """The files of an event's way are counted, from the first to those of the core."""
    [line] = await run("walk.py")
    assert line.startswith("an event's way: ")
