"""Posts reports to the control plane's webhook over HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import attrs

from orchestrator.adapters.proxies import find_proxy
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.urls import shown_url


@attrs.frozen
class HttpWebhook:
    _http: aiohttp.ClientSession

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        """Post the text; redirects are not followed, so that a signed body goes to no other
        address."""
        try:
            async with self._http.post(
                url,
                data=text.encode(),
                headers=headers,
                allow_redirects=False,
                proxy=find_proxy(url),
            ) as answer:
                return WebhookAnswer(status=answer.status, date=_read_date(answer))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TemporaryError(f"{shown_url(url)}: {error}", nothing_done=True) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError) as error:
            # A host with a label that is empty or longer than 63 bytes is invalid in DNS: the
            # codec "idna" raises UnicodeError for it (RFC 3490, 4.1).
            raise PermanentError(f"{shown_url(url)} is no address of a webhook.") from error
        except aiohttp.ClientResponseError as error:
            # Its text has the whole URL, or that of the proxy.
            said = f"{type(error).__name__} {error.status} {error.message}"
            raise TemporaryError(f"{shown_url(url)}: {said}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise TemporaryError(f"{shown_url(url)}: {said}") from error


def _read_date(answer: aiohttp.ClientResponse) -> datetime | None:
    """The time of the answer by the receiver's clock (`Date`), in UTC; None without one.

    RFC 9110, sections 5.6.7 and 6.6.1.
    """
    try:
        date = parsedate_to_datetime(answer.headers.get("Date", ""))
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


@asynccontextmanager
async def open_webhook(
    *, timeout_s: float, trace_configs: list[aiohttp.TraceConfig] | None = None
) -> AsyncIterator[HttpWebhook]:
    """A client for the life of the app; `timeout_s` is for a whole answer."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    # Reports are rare: the receiver may close a kept connection just as the next report is written,
    # and then it would be unknown whether it arrived.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, trace_configs=trace_configs
    ) as http:
        yield HttpWebhook(http)
