"""The control plane's webhook, as a port."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class WebhookAnswer:
    """What a webhook answered, and when by its own clock; None: it doesn't say."""

    status: int
    date: datetime | None = None


class Webhook(Protocol):
    """The control plane's ear."""

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        """Post the text; the answer, whatever it is. Redirects aren't followed.

        Raises:
            PermanentError: nothing can be posted to that address, however often it is tried.
            TemporaryError: there was no answer; `nothing_done` if it surely didn't arrive.
        """
