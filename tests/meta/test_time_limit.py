"""A test that hangs fails with what it waits for, and so does its teardown."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANGS = """
import asyncio
import pytest

@pytest.fixture
async def service():
    yield
    await never_stopped()

async def test_hangs(service):
    async with asyncio.TaskGroup() as group:
        group.create_task(never_answered())

async def never_answered():
    await answer()

async def answer():
    await asyncio.Event().wait()

async def never_stopped():
    await asyncio.Event().wait()

def test_comes_after():
    pass
"""


def run_tests(directory: Path, limit_s: float) -> str:
    """What pytest prints of a module that hangs."""
    (directory / "test_hangs.py").write_text(HANGS)
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    environment = {name: value for name, value in os.environ.items() if "SOAK" not in name}
    command = [sys.executable, "-m", "pytest", "-p", "tests.time_limit", "-n", "0"]
    finished = subprocess.run(  # noqa: S603 - our own interpreter
        [*command, "--timeout", str(limit_s), "--rootdir", str(directory), str(directory)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return finished.stdout


def test_a_test_that_hangs_fails_with_the_stacks_of_its_tasks(tmp_path: Path) -> None:
    """Test and teardown each fail at their limit, and the next test runs."""
    printed = run_tests(tmp_path, limit_s=0.2)
    assert "1 failed, 1 passed, 1 error" in printed
    assert printed.count("Failed: The test took longer than its limit of 0.2 s.") >= 2
    assert "in never_answered" in printed
    assert "in answer" in printed
