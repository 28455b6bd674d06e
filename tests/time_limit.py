"""The time limit of each test: pytest-timeout's, with three additions that this suite needs.

- A test that hangs waits in a task: the stacks of all tasks show where.
- An exception that a signal raises in a background task ends that task and not the test, so the
  limit is repeated.
- A test that hung may hang in its teardown, too, for which the plugin no longer has a limit.

The limit is enforced by a signal, not a thread: a thread can only end the whole process, which
leaves a worker of xdist without its report, and its servers running.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import pytest_timeout

#: A soak takes as long as its counts need.
IS_SOAK = "SOAK" in os.environ

#: Between two signals of one limit; pytest reports a failure in less time.
_AGAIN_S = 60.0

_settings = pytest.StashKey[Any]()


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Have the test fail after `settings.timeout` seconds, and again if that didn't end it."""
    if IS_SOAK:
        return True
    item.stash[_settings] = settings

    def give_up(number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if not pytest_timeout.is_debugging():
            _print_tasks()
            pytest.fail(f"The test took longer than its limit of {settings.timeout:g} s.")

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # how the plugin cancels it
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, _AGAIN_S)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Start the limit again, since the plugin removes it once a test has failed."""
    settings = item.stash.get(_settings, None)
    if settings is not None:
        pytest_timeout_set_timer(item, settings)
    return (yield)


@contextmanager
def time_limit_paused() -> Iterator[None]:
    """Pause the limit while the first test that needs it sets up a resource of the whole
    session."""
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)


def _print_tasks() -> None:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no event loop runs
        return
    for task in tasks:
        print(f"{task.get_name()} waits:", *_frames(task.get_coro()), sep="\n", file=sys.stderr)


def _frames(waits: Any) -> Iterator[str]:
    """Where a coroutine waits, outermost first, through all that it awaits itself.

    `Task.print_stack` shows the outermost frame alone.
    """
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        waits = waits.cr_await
