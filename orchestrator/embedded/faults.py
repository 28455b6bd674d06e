"""What goes wrong with requests to a server of ours, for who tests how its clients take it."""

from asyncio import Event
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs
from aiohttp import web


@attrs.frozen(eq=False)
class Fault:
    """One thing that goes wrong with one request, made by one of the constructors."""

    kind: Literal["error", "reset", "answer_lost", "garbled", "slow"]
    code: str = ""
    message: str = ""
    http_status: int = 400
    reached: Event = attrs.field(init=False, factory=Event)
    release: Event = attrs.field(init=False, factory=Event)

    @classmethod
    def error(cls, code: str, message: str = "injected", *, http_status: int = 400) -> "Fault":
        """An AWS error is the answer; nothing is done."""
        return cls("error", code, message, http_status)

    @classmethod
    def reset(cls) -> "Fault":
        """The connection is closed; nothing is done."""
        return cls("reset")

    @classmethod
    def answer_lost(cls) -> "Fault":
        """The work is done, then the connection is closed without an answer."""
        return cls("answer_lost")

    @classmethod
    def garbled(cls, body: str) -> "Fault":
        """The work is done, and a 200 with this body is the answer."""
        return cls("garbled", message=body, http_status=200)

    @classmethod
    def slow(cls) -> "Fault":
        """The work is done and `reached` is set; the answer waits for `release`."""
        return cls("slow")


@attrs.define
class Faults:
    """Which of a server's next requests go wrong, by what it calls them."""

    _listed: defaultdict[str, deque[Fault | None]] = attrs.field(
        init=False, factory=lambda: defaultdict(deque)
    )
    _slow: list[Fault] = attrs.field(init=False, factory=list)

    def inject(self, name: str, *faults: Fault | None) -> None:
        """Let the next requests of a name go wrong, one fault each; None lets one pass."""
        self._listed[name].extend(faults)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._listed.clear()

    @property
    def left(self) -> list[str]:
        """The names of requests that have yet to come, once for each."""
        return [name for name, listed in self._listed.items() for _ in listed]

    def take(self, name: str) -> Fault | None:
        """What the request that has just come meets."""
        return self._listed[name].popleft() if self._listed[name] else None

    async def meet(
        self,
        fault: Fault | None,
        request: web.Request,
        respond: Callable[[], Awaitable[web.Response]],
    ) -> web.Response:
        """The answer to a request with a fault: `respond` does the work, or refuses to."""
        if fault and fault.kind == "reset":
            return hang_up(request)
        response = await respond()
        if fault and fault.kind == "answer_lost":
            return hang_up(request)
        if fault and fault.kind == "garbled":
            return web.Response(text=fault.message, content_type="application/x-amz-json-1.1")
        if fault and fault.kind == "slow":
            self._slow.append(fault)
            fault.reached.set()
            await fault.release.wait()
        return response

    async def release_slow(self, _app: web.Application) -> None:
        """No slow answer holds up the end of the server."""
        for fault in self._slow:
            fault.release.set()


def hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # aiohttp wants one; nobody gets it
