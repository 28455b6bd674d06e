"""The control plane's webhook, as a port."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class WebhookAnswer:
    """A webhook's answer, and its time by the receiver's clock (None if it has none)."""

    status: int
    date: datetime | None = None


class Webhook(Protocol):
    """Posts to the control plane's webhook."""

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        """Post the text; returns the answer, whatever its status. Redirects aren't followed.

        Raises:
            PermanentError: nothing can be posted to that URL.
            TemporaryError: there was no answer; `nothing_done` if it certainly didn't arrive.
        """
