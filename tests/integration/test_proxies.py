"""Jenkins and the control plane are reached through the proxy that the environment names."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.adapters.jenkins.builder import open_jenkins
from orchestrator.adapters.proxies import find_proxy
from orchestrator.adapters.webhook import open_webhook
from orchestrator.settings import child_environment

BEHIND = "http://control.example:8081/webhook"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxies of the machine's own environment."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a proxy or a server, and the addresses that were requested of it."""
    asked = list[str]()

    async def handle(request: web.Request) -> web.Response:
        asked.append(str(request.url))
        return web.json_response({"mode": "NORMAL", "jobs": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.port}", asked


async def post(url: str) -> int:
    async with open_webhook(timeout_s=30) as webhook:
        return (await webhook.post(url=url, text="{}", headers={})).status


async def ask_jenkins(url: str) -> None:
    async def token() -> str:
        return "token"

    async with open_jenkins(
        url=url, user="u", token=token, name="J", connect_timeout_s=5, timeout_s=10
    ) as builder:
        await builder.check()


async def test_the_webhook_is_posted_through_the_proxy(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The webhook is posted through the proxy, so that its name need not be resolved here."""
    url, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", url.removeprefix("http://"))
    assert await post(BEHIND) == 200
    assert asked == [BEHIND]


async def test_jenkins_is_reached_through_the_proxy(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Jenkins is reached through the proxy with the credentials of the settings, whatever a
    `.netrc` has for it."""
    url, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", url)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine jenkins.example login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    await ask_jenkins("http://jenkins.example")
    assert asked
    assert all(one.startswith("http://jenkins.example/") for one in asked)


async def test_hosts_of_no_proxy_are_reached_directly(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts of NO_PROXY are reached directly, while no proxy listens."""
    url, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "other.example,127.0.0.1")
    assert await post(f"{url}/webhook") == 200
    assert asked == [f"{url}/webhook"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://a.example/x", "http://secure:1"),
        ("http://a.example", "http://plain:1"),
        ("http://user:p@in.corp/", None),
        ("http://b.in.corp:8080/", None),
        ("http://corp/", "http://plain:1"),
        ("ftp://a.example", None),
        ("http://[odd", None),
        ("", None),
    ],
)
def test_the_proxy_of_an_address(
    monkeypatch: pytest.MonkeyPatch, url: str, found: str | None
) -> None:
    """The proxy of an address is chosen by its scheme, and names of NO_PROXY include those below
    them."""
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:1")
    monkeypatch.setenv("HTTP_PROXY", "plain:1")
    monkeypatch.setenv("NO_PROXY", "in.corp, localhost")
    assert find_proxy(url) == found


@pytest.mark.parametrize(
    ("own", "extra", "joined"),
    [
        ({"NO_PROXY": "a"}, {"NO_PROXY": "b", "no_proxy": "b"}, "a,b"),
        ({"NO_PROXY": "a", "no_proxy": "c"}, {"NO_PROXY": "b"}, "c,b"),
        ({}, {"no_proxy": "b"}, "b"),
    ],
)
def test_a_process_of_ours_passes_by_what_we_do(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, str], extra: dict[str, str], joined: str
) -> None:
    """A child process reaches the embedded AWS, and what the machine reaches without its proxy,
    directly."""
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    environment = child_environment(extra)
    assert environment["NO_PROXY"] == environment["no_proxy"] == joined
