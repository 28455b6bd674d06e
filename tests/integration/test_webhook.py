"""The client of the control plane's webhook: what an answer means, and what no answer means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web

from orchestrator.adapters.webhook import open_webhook
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.errors import PermanentError, TemporaryError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A webhook with this handler; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/webhook"
    finally:
        await runner.cleanup()


async def post(url: str, *, timeout_s: float = 30) -> int:
    return (await ask(url, timeout_s=timeout_s)).status


async def ask(url: str, *, timeout_s: float = 30) -> WebhookAnswer:
    async with open_webhook(timeout_s=timeout_s) as webhook:
        return await webhook.post(url=url, text='{"a":"é"}', headers={"x-signature": "s"})


async def test_a_post_arrives_byte_for_byte() -> None:
    """The text arrives byte for byte under its headers, and the status is returned."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, await request.read(), dict(request.headers)))
        return web.Response(status=204)

    async with serving(handler) as url:
        assert await post(url) == 204
    ((method, path, body, headers),) = seen
    assert (method, path, body) == ("POST", "/webhook", '{"a":"é"}'.encode())
    assert headers["x-signature"] == "s"


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("Fri, 20 Nov 2026 09:00:07 GMT", datetime(2026, 11, 20, 9, 0, 7, tzinfo=UTC)),
        ("Friday, 20-Nov-26 09:00:07 GMT", datetime(2026, 11, 20, 9, 0, 7, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 10:00:07 +0100", datetime(2026, 11, 20, 9, 0, 7, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 09:00:07 -0000", datetime(2026, 11, 20, 9, 0, 7, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        ("Fri, 32 Nov 2026 09:00:07 GMT", None),
        ("Fri, 20 Nov 99999999999 09:00:07 GMT", None),
        ("Fri, 20 Nov 2026 09:00:07 +9999999999", None),
    ],
)
async def test_the_time_of_an_answer_is_its_date_header(said: str, time: datetime | None) -> None:
    """The time of an answer is its `Date` header, None if that isn't a date (RFC 9110, section
    5.6.7)."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"Date": said})

    async with serving(handler) as url:
        assert await ask(url) == WebhookAnswer(status=401, date=time)


@pytest.mark.parametrize("status", [200, 400, 401, 422, 500, 503])
async def test_every_status_is_an_answer(status: int) -> None:
    """Each status is returned as it is."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(handler) as url:
        assert await post(url) == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """A redirect isn't followed, since the report is signed for one address."""
    paths = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with serving(handler) as url:
        assert await post(url) == status
    assert paths == ["/webhook"]


async def test_a_refused_connection_means_that_nothing_arrived() -> None:
    """A refused connection is an error that says that nothing was done."""

    async def handler(request: web.Request) -> web.Response:
        raise AssertionError

    async with serving(handler) as url:
        pass
    with pytest.raises(TemporaryError, match="webhook") as caught:
        await post(url)
    assert caught.value.nothing_done


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1",
        "ftp://control.example/",
        "nonsense",
        "http://control..example/webhook",
        f"http://{'x' * 64}.example/webhook",
        "http://\ud800.example/webhook",
        "http://control.example:99999/webhook",
    ],
)
async def test_an_invalid_webhook_address_is_a_permanent_error(url: str) -> None:
    """An invalid address is a permanent error, since no retry could succeed."""
    with pytest.raises(PermanentError):
        await post(url)


async def test_an_error_shows_no_credentials_of_the_url() -> None:
    """No error shows credentials of the address, whether the request may have arrived or not."""

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as url:
        address = url.replace("://", "://user:s3cr3t@") + "?key=s3cr3t"
        with pytest.raises(TemporaryError, match="webhook") as unanswered:
            await post(address)
    with pytest.raises(TemporaryError, match="webhook") as unreachable:
        await post(address)
    with pytest.raises(PermanentError, match="webhook") as unusable:
        await post(address.replace("http://", "ftp://"))
    assert "s3cr3t" not in f"{unanswered.value} {unreachable.value} {unusable.value}"


async def test_a_hang_up_may_mean_anything() -> None:
    """A connection that is closed without an answer is an error after which the request may have
    taken effect."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as url:
        with pytest.raises(TemporaryError) as caught:
            await post(url)
    assert not caught.value.nothing_done


async def test_silence_may_mean_anything() -> None:
    """A webhook that doesn't answer within the timeout is an error after which the request may have
    taken effect."""
    never = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with serving(handler) as url:
        with pytest.raises(TemporaryError) as caught:
            await post(url, timeout_s=0.2)
    assert not caught.value.nothing_done
