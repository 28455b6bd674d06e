"""A night with all kinds of data that the console shows: a long life, failures, waits, forty runs
of one cause."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from aiohttp import web

from orchestrator.embedded import Fault
from tests.browser.operators import Fleet

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LOCK = "helm upgrade: another operation (install/upgrade/rollback) is in progress"
FORTY = [f"{name}-{number}" for number in (1, 2) for name in (
    "aperture", "blue-sun", "cyberdyne", "duff", "ecorp", "frobozz", "gringotts", "hanso", "ingen",
    "jabberwock", "kwik-e-mart", "lexcorp", "massive-dynamic", "nakatomi", "omni", "prestige",
    "quahog", "rekall", "sirius", "tessier",
)]  # fmt: skip
QUIET = [
    "contoso", "litware", "proseware", "tailspin", "wingtip", "adatum", "alpine-ski",
    "blue-yonder", "city-power", "coho-winery", "consolidated", "fourth-coffee",
]  # fmt: skip


@attrs.define
class Webhook:
    """A control plane's webhook, which answers the next reports with `next`, and then with 204."""

    next: list[int] = attrs.field(factory=list)

    async def receive(self, _: web.Request) -> web.Response:
        return web.Response(status=self.next.pop(0) if self.next else 204)


@attrs.define
class Night:
    """The scene, whose times are before `now`, which is the browser's."""

    fleet: Fleet
    webhook: Webhook
    now: datetime = attrs.field(factory=lambda: datetime.now(UTC))

    def at(self, seconds_ago: float) -> None:
        """Advance the clock to so long before now."""
        self.fleet.clock.turn(
            (self.now - timedelta(seconds=seconds_ago) - self.fleet.clock.now()).total_seconds()
        )

    async def happen(self) -> None:
        """Send all events, in the order of time."""
        await self._a_long_life()
        await self._quiet_tenants()
        for seconds_ago, deed in sorted(self._deeds(), key=lambda one: -one[0]):
            self.at(seconds_ago)
            await deed()
        self.at(0)

    async def _a_long_life(self) -> None:
        """acme-corp, from a first provisioning that failed to last month's deployments."""
        fleet = self.fleet
        self.at(271 * DAY)
        await self._provision("acme-corp", "premium")
        fleet.clock.turn(8 * MINUTE)
        await fleet.end("acme-corp", "FAILED", reason="quota of VPCs reached in eu-west-1")
        fleet.clock.turn(4 * MINUTE)
        await fleet.end("acme-corp")
        fleet.clock.turn(36 * MINUTE)
        await self._provision("acme-corp", "premium")
        fleet.clock.turn(11 * MINUTE)
        await fleet.end("acme-corp")
        await self._deployment("acme-corp", 6 * MINUTE)
        self.at(190 * DAY)
        await self._deployment("acme-corp", 6.2 * MINUTE)
        self.at(90 * DAY)
        await self._deploy("acme-corp")
        fleet.clock.turn(4 * MINUTE)
        await fleet.cancel("acme-corp", "wrong release")
        fleet.clock.turn(5 * MINUTE)
        await self._deployment("acme-corp", 6.6 * MINUTE)

    async def _quiet_tenants(self) -> None:
        for number, name in enumerate(QUIET):
            self.at((40 - number) * DAY)
            await self._deployment(name, (5 + number % 4) * MINUTE)
        self.at(20 * DAY)
        for name in FORTY:
            await self._deployment(name, MINUTE)

    def _deeds(self) -> Iterator[tuple[float, Any]]:
        """The events of the night, each so many seconds ago."""
        fleet, clock = self.fleet, self.fleet.clock
        yield from self._the_replay()
        yield from self._failed("hooli", 34 * MINUTE, 8 * MINUTE, "helm upgrade: timed out")
        yield from self._failed("initrode", 75 * MINUTE, 5 * MINUTE, "smoke test answered 502")
        yield from self._failed("stark", 7.2 * HOUR, 14 * MINUTE, "error acquiring the state lock")

        async def misfit() -> None:
            override = {"2FA_MODE": "strict", "CODEBUILD_REGION": "eu-west-1", "password": "x"}
            config = {"type": "CODE_BUILD", "config": {"environmentOverride": override}}
            tenant = {"id": "globex-eu", "name": "Globex Europe", "account": 9007199254740993}
            plan = {"tier": "enterprise", "seats": 250}
            await fleet.send(
                "TENANT_PROVISIONING", "globex-eu", tenant=tenant, planConfig=plan,
                builderConfig=config,
            )  # fmt: skip

        async def replay_misfit() -> None:
            await fleet.replay((await fleet.tenant("globex-eu"))["timeline"][0]["runId"])

        yield 103 * MINUTE, misfit
        yield 62 * MINUTE, replay_misfit
        yield 72 * MINUTE, lambda: self._deploy("northwind")
        yield (
            33.5 * MINUTE,
            lambda: fleet.send("TENANT_DEPROVISIONING", "northwind", tier="premium"),
        )
        for tick in range(28):
            yield 33 * MINUTE - tick * 70, fleet.sweep
        for number, name in enumerate(FORTY):
            yield 24 * MINUTE - 9 * number, lambda name=name: fleet.deploy(name, tier="basic")
        for name, ago in (("initech", 4 * MINUTE), ("pied-piper", 3 * MINUTE)):
            yield ago, lambda name=name: self._provision(name, "premium")
        yield 9 * MINUTE, lambda: fleet.deploy("umbrella-health", tier="enterprise")

        async def no_capacity() -> None:
            fault = Fault.error("AccountLimitExceededException", "20 builds are running")
            fleet.codebuild.inject("StartBuild", *[fault] * 3)
            await self._provision("tyrell", "premium")
            for pause in (31, 61):
                clock.turn(pause)
                await fleet.sweep()

        yield 2.2 * MINUTE, no_capacity

    def _the_replay(self) -> Iterator[tuple[float, Any]]:
        """acme-corp's deployment waits for capacity, fails, and is replayed."""
        fleet, clock = self.fleet, self.fleet.clock

        async def wait_for_capacity() -> None:
            fault = Fault.error("AccountLimitExceededException", "20 builds are running")
            fleet.codebuild.inject("StartBuild", *[fault] * 3)
            await self._deploy("acme-corp")
            for pause in (31, 61, 121):
                clock.turn(pause)
                await fleet.sweep()

        async def fail() -> None:
            self.webhook.next = [503, 503]
            await fleet.end("acme-corp", "FAILED", reason=LOCK)
            for pause in (6, 11):
                clock.turn(pause)
                await fleet.sweep()

        async def replay() -> None:
            tenant = await fleet.tenant("acme-corp")
            opener = next(
                one for one in tenant["timeline"] if one["eventType"] == "TENANT_DEPLOYMENT"
            )
            await fleet.replay(opener["runId"], force=True)

        yield 43 * MINUTE, wait_for_capacity
        yield 26 * MINUTE, fail
        yield 10.5 * MINUTE, replay

    def _failed(
        self, name: str, ago: float, lasted: float, reason: str
    ) -> Iterator[tuple[float, Any]]:
        async def end() -> None:
            await self.fleet.end(name, "FAILED", reason=reason)

        yield ago, lambda: self._deploy(name)
        yield ago - lasted, end

    def _credentials(self) -> dict[str, str]:
        """The credentials of the request's report, with a context of its own for each request."""
        return {"secret": "the-secret", "context": f"registration-{self.fleet.sent}"}

    async def _provision(self, name: str, tier: str) -> None:
        await self.fleet.send("TENANT_PROVISIONING", name, tier=tier, **self._credentials())

    async def _deploy(self, name: str) -> None:
        await self.fleet.deploy(name, **self._credentials())

    async def _deployment(self, name: str, seconds: float) -> None:
        await self._deploy(name)
        self.fleet.clock.turn(seconds)
        await self.fleet.end(name)
