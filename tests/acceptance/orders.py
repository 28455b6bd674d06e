"""The events that the handler of orders received, and the queue that they may arrive by."""

import asyncio
from typing import Any

import attrs
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Event, Settings
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.app import create_worker_app
from orchestrator.settings import Intake

Seen = list[Event[dict[str, Any]]]

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"


async def work_off(settings: Settings, inbox: InMemoryInbox, **parts: Any) -> None:
    """A worker handles all messages of the queue."""
    app = create_worker_app(
        attrs.evolve(settings, intake=Intake(queue_url=QUEUE)), inbox=inbox, **parts
    )
    async with TestClient(TestServer(app, host="127.0.0.1")), asyncio.timeout(30):
        while len(inbox):  # noqa: ASYNC110 - what it waits for sends no notification
            await asyncio.sleep(0.001)
