"""A user's module in which every part is the user's, as functions where a function suffices."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from orchestrator import Event, Extension, HandlerRegistry, Job, PermanentError, Run

#: The steps of the lifespan, for tests in the same process.
lifespan_steps: list[str] = []

registry = HandlerRegistry()


@attrs.frozen
class Order:
    goods: str


@registry.on("ORDER")
async def order(event: Event[Order], run: Run) -> None:
    tier = await run.tier_details("MONTHLY")
    await run.start_job("deliver", {**tier, **run.resources, "GOODS": event.payload.goods}, "VAN")


class Van:
    """A builder whose job's id has all that the builder received."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        asked = ",".join(f"{name}={params[name]}" for name in ("GOODS", "PRICE", "DEPOT"))
        return Job(id=f"{job_identifier}({asked})", builder="VAN", job_identifier=job_identifier)


async def find_tier(tier: str) -> Mapping[str, Any] | None:
    return {"PRICE": 9} if tier == "MONTHLY" else None


@asynccontextmanager
async def lifespan() -> AsyncIterator[dict[str, str]]:
    lifespan_steps.append("open")
    yield {"DEPOT": "north"}
    lifespan_steps.append("closed")


def guard(default: Any) -> Any:
    """A wrapper that passes on type and body only."""
    return Guard(default)


@attrs.frozen
class Guard:
    default: Any

    async def handle_event(self, event_type: str, body: Any) -> object:
        if body.get("account") == "999999999999":
            raise PermanentError(f"{event_type} of {sorted(body['detail'])} is not for us.")
        return await self.default.handle_event(event_type, body)


extension = Extension(
    registry=registry,
    builders={"VAN": Van()},
    tiers=find_tier,
    orchestrator=guard,
    lifespan=lifespan,
)
