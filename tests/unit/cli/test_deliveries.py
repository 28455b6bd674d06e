"""How `dev` delivers events to the service: as EventBridge does."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.cli.deliveries import Deliveries
from orchestrator.embedded import open_codebuild
from orchestrator.testing import ManualClock, envelope


@attrs.define
class Service:
    """Answers events as the test says, the last answer for all that follow."""

    answers: list[web.Response] = attrs.field(factory=list)
    bodies: list[dict[str, Any]] = attrs.field(factory=list)
    states: list[str] = attrs.field(factory=lambda: ["provisioning"])

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        return self.answers.pop(0) if self.answers else web.json_response({"success": True})

    async def show(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != "t-1":
            raise web.HTTPNotFound
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return web.json_response({"state": state})


@attrs.define
class World:
    service: Service
    deliveries: Deliveries
    clock: ManualClock
    said: list[str]

    async def deliver(self, event: dict[str, Any]) -> None:
        delivering = asyncio.ensure_future(self.deliveries.deliver(event))
        while not delivering.done():
            self.clock.turn(600)
            await asyncio.sleep(0)
        delivering.result()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    service, clock, said = Service(), ManualClock(), list[str]()
    app = web.Application()
    app.router.add_post("/events", service.take)
    app.router.add_get("/tenants/{id}", service.show)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        deliveries = Deliveries(
            http=http,
            url=str(server.make_url("")).rstrip("/"),
            clock=clock,
            chance=random.Random(0),  # noqa: S311
            show=said.append,
        )
        yield World(service, deliveries, clock, said)


def problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


async def test_an_event_is_delivered_until_it_is_accepted(world: World) -> None:
    """The same event, after the pause that the answer names."""
    world.service.answers = [problem(503, "Busy."), problem(500, "A bug.")]
    event = envelope("TENANT_DEPLOYMENT", {"tenantId": "t-1"})
    await world.deliver(event)
    assert world.service.bodies == [event] * 3
    assert [line.partition(" EventBridge")[0] for line in world.said] == [
        "TENANT_DEPLOYMENT was answered 503: Busy.",
        "TENANT_DEPLOYMENT was answered 500: A bug.",
        "EventBridge delivered TENANT_DEPLOYMENT.",
        "The tenant t-1 is provisioning.",
    ]


async def test_a_refused_event_is_given_up(world: World) -> None:
    """A 422 is not delivered again."""
    world.service.answers = [problem(422, "No such tier.")]
    await world.deliver(envelope("TENANT_PROVISIONING", {}))
    assert world.said == [
        "TENANT_PROVISIONING was answered 422: No such tier. EventBridge gives up."
    ]


@pytest.mark.parametrize("body", ["[]", "<html>", ""])
async def test_an_odd_answer_counts_by_its_status(world: World, body: str) -> None:
    """It ends no delivery with a traceback."""
    world.service.answers = [web.Response(status=200, text=body)]
    await world.deliver(envelope("TENANT_PARTY", {}))
    assert len(world.service.bodies) == 1


async def test_a_service_that_is_away_gets_the_event_once_it_is_back(world: World) -> None:
    """An event is delivered again until the service answers, as while it restarts."""
    world.deliveries.url, url = "http://127.0.0.1:9", world.deliveries.url
    delivering = asyncio.ensure_future(
        world.deliveries.deliver(envelope("TENANT_DEPLOYMENT", {"tenantId": "nobody"}))
    )
    while not delivering.done():
        if world.said:
            world.deliveries.url = url
            world.clock.turn(600)
        await asyncio.sleep(0)
    assert "nothing: the service didn't answer." in world.said[0]
    assert world.said[-1] == "EventBridge delivered TENANT_DEPLOYMENT."


async def test_a_tenants_state_is_shown_when_it_changes(world: World) -> None:
    """The state of a build's tenant is shown, too; a build's changes are shown as builds alone."""
    world.service.states = ["provisioning", "provisioning", "active"]
    async with open_codebuild() as codebuild:
        codebuild.add_project("basic-tenant")
        variables = [{"name": "tenant", "value": '{"id":"t-1"}'}]
        starting = {"projectName": "basic-tenant", "environmentVariablesOverride": variables}
        async with aiohttp.ClientSession() as http:
            target = {"X-Amz-Target": "CodeBuild_20161006.StartBuild"}
            async with http.post(f"{codebuild.url}/", json=starting, headers=target) as answer:
                assert answer.status == 200
        (build,) = codebuild.builds.values()
        for _ in range(3):
            await world.deliver(build.as_event())
    assert world.said == ["The tenant t-1 is provisioning.", "The tenant t-1 is active."]
    assert len({body["id"] for body in world.service.bodies}) == 3
