"""Which changes of an extension's folder `dev` notices."""

import asyncio
import os
from pathlib import Path

import pytest

from orchestrator.cli.watched_files import WatchedFiles
from orchestrator.testing import ManualClock


async def next_change(files: WatchedFiles, clock: ManualClock) -> list[str]:
    waiting = asyncio.ensure_future(files.wait_for_change())
    while not waiting.done():
        clock.turn(60)
        await asyncio.sleep(0)
    return waiting.result()


async def test_each_kind_of_change_is_noticed_once(tmp_path: Path) -> None:
    """A file that is changed, added, in a folder, or removed."""
    clock = ManualClock()
    (tmp_path / "old.py").write_text("a = 1")
    files = WatchedFiles(tmp_path, clock)
    (tmp_path / "old.py").write_text("a = 1000")
    assert await next_change(files, clock) == ["old.py"]
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "new.py").touch()
    assert await next_change(files, clock) == ["inner/new.py"]
    (tmp_path / "old.py").unlink()
    (tmp_path / "inner" / "new.py").write_text("b = 2")
    assert await next_change(files, clock) == ["inner/new.py", "old.py"]


async def test_a_change_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    """A change that leaves the size as it was is noticed by the file's time."""
    clock, path = ManualClock(), tmp_path / "module.py"
    path.write_text("a = 1")
    os.utime(path, (1_000, 1_000))
    files = WatchedFiles(tmp_path, clock)
    path.write_text("a = 2")
    assert await next_change(files, clock) == ["module.py"]


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", ".git/hook.py", "__pycache__/x.py", "node_modules/x.py", "env/lib/x.py"),
        *("test_own.py", "inner/own_test.py", "conftest.py"),
    ],
)
async def test_only_the_users_code_is_watched(tmp_path: Path, name: str) -> None:
    """Neither a virtual environment with its ten thousand files nor tests are watched."""
    clock = ManualClock()
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    files = WatchedFiles(tmp_path, clock)
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).touch()
    (tmp_path / "own.py").touch()
    assert await next_change(files, clock) == ["own.py"]
