"""A client of the running service, for the command line."""

import json
from typing import Any

import aiohttp
import attrs
from yarl import URL

from orchestrator.adapters.system import RandomIds, SystemClock
from orchestrator.core.envelopes import Delivery, parse_event
from orchestrator.core.events import AWS_ALIASES
from orchestrator.wire import decode_json


class ServiceUnreachableError(Exception):
    """Nobody answers at the URL."""


@attrs.frozen
class Sent:
    """An answer to an event, and the run that it led to."""

    status: int
    headers: dict[str, str]
    answer: Any
    run: dict[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        return self.status < 300

    def as_json(self) -> dict[str, Any]:
        return {"status": self.status, "answer": self.answer, "run": self.run}

    def as_text(self) -> str:
        """What came of it, for a person."""
        lines = [f"{self.status} {json.dumps(self.answer)}"]
        if "Retry-After" in self.headers:
            lines.append(f"try again in {self.headers['Retry-After']} s")
        if "Idempotent-Replayed" in self.headers:
            lines.append("handled by an earlier delivery")
        if self.run:
            job = self.run["job"]
            lines.append(f"run     {self.run['runId']}: {self.run['status']}")
            lines.append(f"tenant  {self.run['tenantId'] or '-'}")
            lines.append(f"job     {job['builder'] + ' ' + job['id'] if job else '-'}")
        return "\n".join(lines)


async def send_event(url: str, event_type: str, text: bytes) -> Sent:
    """Post an event; a body that names no id gets a fresh one, so it counts as a new event.

    Raises:
        BadEvent: the text is no event.
        ServiceUnreachableError: nobody answers.
    """
    event = parse_event(
        event_type,
        decode_json(text),
        delivery=Delivery(),
        aliases=AWS_ALIASES,
        now=SystemClock().now(),
        fresh_id=RandomIds().fresh_id(),
    )
    try:
        async with aiohttp.ClientSession(url) as http:
            address = URL("/events", encoded=True) / event_type
            headers = {"Content-Type": "application/json", "Idempotency-Key": event.id}
            async with http.post(address, data=text, headers=headers) as answer:
                sent = Sent(
                    answer.status, dict(answer.headers), await answer.json(content_type=None)
                )
            location = sent.headers.get("Location") or sent.answer.get("instance", "")
            if "/runs/" in location:
                async with http.get(location) as run:
                    sent = attrs.evolve(sent, run=await run.json())
            return sent
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceUnreachableError(
            f"Nothing answers at {url} ({error}): start the service, or name another --url."
        ) from error
