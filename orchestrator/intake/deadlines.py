"""The deadline of reads: GET and HEAD are answered in time, however slow the ledger is."""

import asyncio
from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from orchestrator.core.errors import TemporaryError

#: What the answer is waiting for, as named in the problem, such as "the check 'ledger'".
WAITS_FOR = web.RequestKey("waits_for", str)


def answer_reads_by(deadline_s: Callable[[], float]) -> Middleware:
    """Answer each GET and HEAD within the seconds that `deadline_s` returns at its start, else 503.

    The handler is cancelled then, since a read has no effects.
    """

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return await handler(request)
        seconds = deadline_s()
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await handler(request)
        except TimeoutError:
            if not deadline.expired():
                raise
            slow = request.get(WAITS_FOR, "what it reads")
            raise TemporaryError(
                f"There was no answer within {seconds:.3g} s, since {slow} is slow: retry."
            ) from None

    return limit
