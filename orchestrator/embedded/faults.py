"""Fault injection for the servers of the embedded AWS, to test how clients cope."""

from asyncio import Event
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs
from aiohttp import web


@attrs.frozen(eq=False)
class Fault:
    """A fault of one request, created by one of the constructors."""

    kind: Literal["error", "reset", "answer_lost", "garbled", "slow"]
    code: str = ""
    message: str = ""
    http_status: int = 400
    reached: Event = attrs.field(init=False, factory=Event)
    release: Event = attrs.field(init=False, factory=Event)

    @classmethod
    def error(cls, code: str, message: str = "injected", *, http_status: int = 400) -> "Fault":
        """Answer with an AWS error, without effect."""
        return cls("error", code, message, http_status)

    @classmethod
    def reset(cls) -> "Fault":
        """Close the connection, without effect."""
        return cls("reset")

    @classmethod
    def answer_lost(cls) -> "Fault":
        """Do the work, then close the connection without an answer."""
        return cls("answer_lost")

    @classmethod
    def garbled(cls, body: str) -> "Fault":
        """Do the work, then answer 200 with this body."""
        return cls("garbled", message=body, http_status=200)

    @classmethod
    def slow(cls) -> "Fault":
        """Do the work and set `reached`; the answer waits for `release`."""
        return cls("slow")


@attrs.define
class Faults:
    """The faults of a server's next requests, by the server's names for requests."""

    _listed: defaultdict[str, deque[Fault | None]] = attrs.field(
        init=False, factory=lambda: defaultdict(deque)
    )
    _slow: list[Fault] = attrs.field(init=False, factory=list)

    def inject(self, name: str, *faults: Fault | None) -> None:
        """Inject faults into the next requests of a name, one each; None lets a request pass."""
        self._listed[name].extend(faults)

    def clear(self) -> None:
        """Remove all faults."""
        self._listed.clear()

    @property
    def left(self) -> list[str]:
        """The names of the faults that were not used yet, once for each."""
        return [name for name, listed in self._listed.items() for _ in listed]

    def take(self, name: str) -> Fault | None:
        """The fault of the request that has just arrived, if any; it is used up."""
        return self._listed[name].popleft() if self._listed[name] else None

    async def meet(
        self,
        fault: Fault | None,
        request: web.Request,
        respond: Callable[[], Awaitable[web.Response]],
    ) -> web.Response:
        """Answer a request with its fault; `respond` does the work, or refuses to."""
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
        """Release all slow answers, so that the server can stop."""
        for fault in self._slow:
            fault.release.set()


def hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # aiohttp requires one; it is not sent
