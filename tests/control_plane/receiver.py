"""The control plane for the tests: its verifier in JavaScript, run by Node."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import attrs

SECRET = "00112233445566778899aabbccddeeff"
_SCRIPT = Path(__file__).with_name("receiver.js")

#: A status that is answered without effect, or a connection closed before or after the effect.
Fault = int | str


@attrs.frozen
class ControlPlane:
    """The webhook at `url`, and the control plane behind it, which a test configures and
    queries."""

    url: str
    _http: aiohttp.ClientSession

    async def expect(self, tenant_id: str, *, secret: str = SECRET, context: str) -> None:
        """A provisioning of the tenant is in progress there, which waits for one report."""
        await self._configure(expect={tenant_id: {"secret": secret, "context": context}})

    async def turn_clock(self, now: datetime | None) -> None:
        """Set its clock; None: the machine's own."""
        await self._configure(nowMs=None if now is None else round(now.timestamp() * 1000))

    async def fail(self, *faults: Fault) -> None:
        """The faults of the next reports: a status, "reset" or "answerLost"."""
        await self._configure(faults=list(faults))

    async def accepted(self) -> list[dict[str, Any]]:
        return list((await self._look())["accepted"])

    async def refused(self) -> list[dict[str, Any]]:
        """The refused reports, each with `status`, `reason` and `body`."""
        return list((await self._look())["refused"])

    async def stringify(self, texts: list[str]) -> list[str]:
        """Each JSON text, parsed and printed again by JavaScript."""
        async with self._http.post("/stringify", json=texts) as answer:
            printed: list[str] = await answer.json()
            return printed

    async def _configure(self, **changes: Any) -> None:
        async with self._http.post("/control", json=changes) as answer:
            assert answer.status == 204

    async def _look(self) -> dict[str, Any]:
        async with self._http.get("/control") as answer:
            seen: dict[str, Any] = await answer.json()
            return seen


@asynccontextmanager
async def open_control_plane() -> AsyncIterator[ControlPlane]:
    """The control plane, on a port of its own."""
    node = shutil.which("node")
    assert node is not None, "Node 20 is needed: `node` is not on the PATH"
    process = await asyncio.create_subprocess_exec(
        node, str(_SCRIPT), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = (await process.stdout.readline()).decode().strip()
        assert port, f"{_SCRIPT.name} ended before it listened; standard error says why"
        base = f"http://127.0.0.1:{port}"
        # Node closes a connection that is idle for 5 s, perhaps just as it is used again.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(base, connector=connector) as http:
            yield ControlPlane(f"{base}/webhook", http)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        # Its output is read to the end, so that no pipe is left open.
        await process.communicate()
