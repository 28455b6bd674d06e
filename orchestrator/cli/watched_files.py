"""Notices changes of a folder's Python files, by polling: `orchestrator dev` then restarts the
service."""

import asyncio
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from orchestrator.core.clock import Clock

_POLL_S = 0.5
#: A scan takes at most this share of the time, however large the folder is.
_SHARE = 0.1
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
#: Your tests, as pytest names them: the service never imports them.
_TESTS = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py")

Stamp = tuple[int, int]


@attrs.define
class WatchedFiles:
    """The `*.py` files below a folder, without tests, hidden folders, virtual environments and the
    like.

    What counts as a change is one since the object was created, or since the last one returned.
    """

    folder: Path
    _clock: Clock
    _seen: dict[Path, Stamp] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = self._scan()

    async def wait_for_change(self) -> list[str]:
        """The files that were changed, added or removed, by their paths below the folder."""
        while True:
            began = time.monotonic()
            found = await asyncio.to_thread(self._scan)
            changed = dict(found.items() ^ self._seen.items())
            self._seen = found
            if changed:
                return sorted(str(path.relative_to(self.folder)) for path in changed)
            await self._clock.sleep(max(_POLL_S, (time.monotonic() - began) / _SHARE))

    def _scan(self) -> dict[Path, Stamp]:
        return dict(self._stamps())

    def _stamps(self) -> Iterator[tuple[Path, Stamp]]:
        for name, folders, files in os.walk(self.folder):
            folder = Path(name)
            folders[:] = [
                one
                for one in folders
                if one not in _SKIPPED
                and not one.startswith(".")
                and not (folder / one / "pyvenv.cfg").exists()
            ]
            for file in files:
                if not file.endswith(".py") or _TESTS.fullmatch(file):
                    continue
                path = folder / file
                try:
                    found = path.stat()
                except OSError:  # removed since it was listed
                    continue
                yield path, (found.st_mtime_ns, found.st_size)
