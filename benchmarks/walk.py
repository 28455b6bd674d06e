"""How far a reader walks who follows one event through the code: files, and those opened again.

The script posts a TENANT_PROVISIONING to the service, whose job is started by an in-memory
builder, and notes each file of the package in the order in which the event enters it.
A file is *opened again* when the next file is not called by the file that was opened last, but by
one opened before. `walk.py --ways` prints the files in order, each with its caller.

Files in `LEAVES` don't count: their functions are understood by name where they are called.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog
from aiohttp.test_utils import TestClient, TestServer

import orchestrator
from orchestrator import Extension, Settings, create_app
from orchestrator.settings import LedgerSettings, Operations, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, provisioning_event

ROOT = Path(orchestrator.__file__).parent

#: Models, conversions, conditions and observers that are understood by their names, and adapters.
LEAVES = frozenset(
    {
        "adapters/",
        "core/backoff.py",
        "core/checkable.py",
        "core/clock.py",
        "core/dispatch/handling.py",
        "core/errors.py",
        "core/evolve.py",
        "core/events/body.py",
        "core/events/event.py",
        "core/events/event_types.py",
        "core/events/javascript.py",
        "core/events/json_text.py",
        "core/events/payloads.py",
        "core/events/timestamps.py",
        "core/events/toolkit.py",
        "core/identifiers.py",
        "core/jobs/builder.py",
        "core/jobs/notifications.py",
        "core/jobs/state_changes.py",
        "core/ledger/event_codec.py",
        "core/ledger/guards.py",
        "core/ledger/history.py",
        "core/ledger/ledger.py",
        "core/ledger/lifecycle.py",
        "core/ledger/possible_start.py",
        "core/ledger/record_parts.py",
        "core/ledger/records.py",
        "core/ledger/snapshot.py",
        "core/ledger/transitions.py",
        "core/ledger/waiting.py",
        "core/metrics.py",
        "core/secrets/redaction.py",
        "core/tasks.py",
        "core/texts.py",
        "core/tracing.py",
        "core/urls.py",
        "intake/bodies.py",
        "intake/exposure.py",
        "intake/links.py",
        "intake/sender.py",
        "logs.py",
        "testing/",
        "wire/",
    }
)


class Walk:
    """The files that are entered, each with the file that it is entered from."""

    def __init__(self) -> None:
        self.ways: list[tuple[str, str | None]] = []
        self._opened: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """A profiler that `sys.setprofile` calls."""
        if event != "call" or (file := _spine_file(frame)) is None or file in self._opened:
            return
        self._opened.add(file)
        callers = (_spine_file(caller) for caller in _callers(frame))
        self.ways.append((file, next((caller for caller in callers if caller), None)))

    @property
    def opened_again(self) -> set[str | None]:
        pairs = zip(self.ways, self.ways[1:], strict=False)
        return {caller for (last, _), (_, caller) in pairs if caller not in (None, last)}


def _spine_file(frame: FrameType) -> str | None:
    """The frame's file in the package, None outside of it and for a leaf."""
    file = Path(frame.f_code.co_filename)
    if not file.is_relative_to(ROOT):
        return None
    name = file.relative_to(ROOT).as_posix()
    return None if name.startswith(tuple(LEAVES)) else name


def _callers(frame: FrameType) -> Iterator[FrameType]:
    caller = frame.f_back
    while caller is not None:
        yield caller
        caller = caller.f_back


@contextmanager
def walked() -> Iterator[Walk]:
    walk = Walk()
    sys.setprofile(walk)
    try:
        yield walk
    finally:
        sys.setprofile(None)


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    app = create_app(
        Settings(
            ledger=LedgerSettings(backend="memory"),
            operations=Operations(reconcile_every_s=0),
            tiers=Tiers(backend="static", static={"STANDARD": {"jobIdentifier": "job"}}),
        ),
        extension=Extension(builders={"CODE_BUILD": InMemoryBuilder()}),
        clock=ManualClock(),
    )
    async with TestClient(TestServer(app)) as client:
        body = provisioning_event()
        with walked() as walk:
            answer = await client.post("/events", json=body)
    assert answer.status == 200, await answer.text()
    if "--ways" in sys.argv:
        for file, caller in walk.ways:
            print(f"  {file:28} from {caller or 'its own task'}")
    print(f"an event's way: {len(walk.ways)} files, {len(walk.opened_again)} of them opened again")


asyncio.run(main())
