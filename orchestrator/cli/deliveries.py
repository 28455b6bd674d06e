"""Delivers events to the service of `orchestrator dev`, as EventBridge would: each until it is
accepted, or answered with a status that isn't retried."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import attrs

from orchestrator.core.clock import Clock
from orchestrator.core.events.body import read_tenant_id
from orchestrator.core.urls import path_segment
from orchestrator.testing.event_bridge import retry_pause_s

_AT_ONCE = 20
#: EventBridge waits so long for an answer (user guide, API destinations).
_TIMEOUT_S = 5.0
_HEADERS = {"Content-Type": "application/json; charset=utf-8"}


@attrs.define(kw_only=True)
class Deliveries:
    """Delivers to the service at `url`, and shows the result of each delivery in a sentence."""

    http: aiohttp.ClientSession
    url: str
    clock: Clock
    chance: random.Random
    show: Callable[[str], None]
    _slots: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _states: dict[str, str] = attrs.field(init=False, factory=dict)

    async def deliver(self, event: Mapping[str, Any]) -> None:
        """Deliver an event's envelope."""
        tries = 0
        while True:
            tries += 1
            status, headers, detail = await self._post(event)
            if status is not None and status < 300:
                break
            pause_s = retry_pause_s(
                status,
                headers,
                tries=tries,
                target="api_destination",
                now=self.clock.now(),
                chance=self.chance,
            )
            sentence = f"{event['detail-type']} was answered {status or 'nothing'}: {detail}"
            if pause_s is None:
                self.show(f"{sentence} EventBridge gives up.")
                return
            self.show(f"{sentence} EventBridge delivers it again in {pause_s:.0f} s.")
            await self.clock.sleep(pause_s)
        if event["source"] != "aws.codebuild":
            self.show(f"EventBridge delivered {event['detail-type']}.")
        await self._show_tenant(event)

    async def _post(
        self, event: Mapping[str, Any]
    ) -> tuple[int | None, Mapping[str, str], str | None]:
        """Status, headers and problem of the answer; the status None if there was none."""
        try:
            async with (
                self._slots,
                asyncio.timeout(_TIMEOUT_S),
                self.http.post(f"{self.url}/events", json=event, headers=_HEADERS) as answer,
            ):
                text = await answer.text(errors="replace")
                return answer.status, answer.headers, _member(text, "detail") or answer.reason
        except (TimeoutError, aiohttp.ClientError):
            return None, {}, "the service didn't answer."

    async def _show_tenant(self, event: Mapping[str, Any]) -> None:
        """Show the state of the event's tenant, if it has changed."""
        tenant_id = _tenant_of(event["detail"])
        if tenant_id is None:
            return
        try:
            async with self.http.get(f"{self.url}/tenants/{path_segment(tenant_id)}") as answer:
                state = _member(await answer.text(errors="replace"), "state")
        except (TimeoutError, aiohttp.ClientError):
            return
        if state is not None and self._states.get(tenant_id) != state:
            self._states[tenant_id] = state
            self.show(f"The tenant {tenant_id} is {state}.")


def _member(text: str, name: str) -> str | None:
    """A text in a JSON object; None if it isn't there, or the text isn't one."""
    try:
        found = json.loads(text).get(name)
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _tenant_of(detail: Mapping[str, Any]) -> str | None:
    """The tenant of an event of the service's, or of a build's state change."""
    environment = detail.get("additional-information", {}).get("environment", {})
    variables = {
        variable["name"]: variable["value"]
        for variable in environment.get("environment-variables", ())
    }
    return read_tenant_id(variables or detail)
