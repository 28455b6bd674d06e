"""The benchmarks themselves run; no test says how fast anything is."""

import asyncio
import json
import sys
from pathlib import Path

import attrs

from benchmarks.contestants.ours import EMPTY
from benchmarks.events import NUMBER, event_body
from benchmarks.report import LATEST
from benchmarks.rows import ROWS
from benchmarks.seeds import in_its_shard
from orchestrator.adapters.dynamodb.items import build_item
from tests.contracts import samples

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


def test_the_latest_results_have_each_row() -> None:
    """One entry for each row, in the order of the table, with its ratio, goal and verdict."""
    latest = json.loads(LATEST.read_text())
    assert [one["name"] for one in latest] == list(ROWS)
    for one in latest:
        assert set(one) == {"name", "ratio", "goal", "holds"}
        assert one["goal"] == ROWS[one["name"]].goal
        assert isinstance(one["holds"], bool)
        assert one["ratio"] is None or one["ratio"] > 0


def test_events_have_the_size_of_real_ones() -> None:
    """A body of about 1.9 KB, once its number is in it."""
    assert 1700 < len(event_body(EMPTY).replace(NUMBER, "000000001")) < 2100


async def test_the_walk_is_counted() -> None:
    """The files of an event's way are counted, from the first to those of the core."""
    [line] = await run("benchmarks/walk.py")
    assert line.startswith("an event's way: ")


def test_a_copy_of_a_run_is_where_the_ledger_would_put_it() -> None:
    """A copy is in each index where the service would put it, spread over the shards."""
    original = samples.run("a", event_type="REFUND", due_at=samples.later(1))
    for number in range(10):
        expected = build_item(attrs.evolve(original, run_id=f"b{number}"), expires_at=None)
        copied = {**build_item(original, expires_at=None), "key": expected["key"]}
        for name in ("position", "data"):
            copied[name] = expected[name]
        assert in_its_shard(copied) == expected
