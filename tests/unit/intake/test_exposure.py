"""An open service that other machines can reach says so once."""

from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from orchestrator import Settings, create_app
from orchestrator.intake.exposure import warn_if_exposed
from orchestrator.settings import LedgerSettings
from orchestrator.settings.auth import Auth


@attrs.define
class Transport:
    """The server's end of a connection."""

    sockname: object

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sockname if name == "sockname" else default


async def warnings_at(*addresses: object) -> list[Any]:
    """The addresses of the warnings after a response on each of these."""
    warn = warn_if_exposed()
    with capture_logs() as logs:
        for address in addresses:
            transport: Any = Transport(address)
            request = make_mocked_request("GET", "/", transport=transport)
            await warn(request, web.Response())
    return [line["address"] for line in logs if line["log_level"] == "warning"]


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 8080),
        ("127.1.2.3", 8080),
        ("::1", 8080, 0, 0),
        ("::ffff:127.0.0.1", 8080, 0, 0),
        "/run/orchestrator.sock",
        b"",
        None,
    ],
)
async def test_a_loopback_address_is_no_exposure(address: object) -> None:
    """A loopback address, a Unix socket and a connection that is gone cause no warning."""
    assert await warnings_at(address) == []


@pytest.mark.parametrize(
    "address", [("10.0.0.5", 8080), ("fe80::1%eth0", 8080, 0, 2), ("::ffff:10.0.0.5", 8080, 0, 0)]
)
async def test_another_address_is_one_warning(address: tuple[Any, ...]) -> None:
    """The first such address is named, also if the first requests came over loopback."""
    seen = [("127.0.0.1", 8080), address, ("10.0.0.6", 8080), address]
    assert await warnings_at(*seen) == [address[0]]


@pytest.mark.parametrize(
    ("auth", "signals"), [(Auth(), 1), (Auth(allow_open=True), 0)], ids=["open", "allow_open"]
)
def test_a_service_that_may_be_open_is_silent(auth: Auth, signals: int) -> None:
    """`auth.allow_open` says that a gateway in front authenticates."""
    app = create_app(Settings(ledger=LedgerSettings(backend="memory"), auth=auth))
    warning = [one for one in app.on_response_prepare if "warn_if_exposed" in one.__qualname__]
    assert len(warning) == signals
