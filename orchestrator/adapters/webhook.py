"""The control plane's webhook over HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import attrs

from orchestrator.adapters.proxies import find_proxy
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.errors import PermanentError, TemporaryError


@attrs.frozen
class HttpWebhook:
    _http: aiohttp.ClientSession

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        """Post the text; a redirect is an answer like any other, since a signed body must not be
        led elsewhere."""
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
            raise TemporaryError(f"{url}: {error}", nothing_done=True) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError) as error:
            # A label of the host that is empty, or longer than 63 bytes, has no form in DNS: the
            # codec "idna" raises UnicodeError for it (RFC 3490, 4.1).
            raise PermanentError(f"{url} is no address of a webhook.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise TemporaryError(f"{url}: {said}") from error


def _read_date(answer: aiohttp.ClientResponse) -> datetime | None:
    """When it was answered by the other side's clock, in UTC; None if it doesn't say so.

    RFC 9110, sections 5.6.7 and 6.6.1.
    """
    try:
        date = parsedate_to_datetime(answer.headers.get("Date", ""))
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


@asynccontextmanager
async def open_webhook(*, timeout_s: float) -> AsyncIterator[HttpWebhook]:
    """A client for the life of the app; `timeout_s` is for a whole answer."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    # Reports are rare: a connection kept since the last one may be closed over there just as the
    # next one is written, and then nobody would know whether it arrived.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        yield HttpWebhook(http)
