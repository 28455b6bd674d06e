"""The benchmark itself works; how fast anything is, no test says."""

import asyncio
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"


async def test_the_benchmark_measures_each_path() -> None:
    """With a single event a round it prints a ratio for each of its lines."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BENCH),
        "1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert len(out.splitlines()) == 3
