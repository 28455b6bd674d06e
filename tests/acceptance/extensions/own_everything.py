"""A user's module: every piece is theirs, functions where a function will do."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from orchestrator import Event, Extension, HandlerRegistry, Job, PermanentError, Run

#: What happened, for tests in the same process.
told: list[str] = []

registry = HandlerRegistry()


@attrs.frozen
class Order:
    goods: str


@registry.on("ORDER")
async def order(event: Event[Order], run: Run) -> None:
    tier = await run.tier_details("MONTHLY")
    await run.start_job("deliver", {**tier, **run.resources, "GOODS": event.payload.goods}, "VAN")


class Van:
    """A job's id tells all that the builder was asked."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        asked = ",".join(f"{name}={params[name]}" for name in ("GOODS", "PRICE", "DEPOT"))
        return Job(id=f"{job_identifier}({asked})", builder="VAN", job_identifier=job_identifier)


async def find_tier(tier: str) -> Mapping[str, Any] | None:
    return {"PRICE": 9} if tier == "MONTHLY" else None


@asynccontextmanager
async def lifespan() -> AsyncIterator[dict[str, str]]:
    told.append("open")
    yield {"DEPOT": "north"}
    told.append("closed")


def guard(default: Any) -> Any:
    """A wrapper that passes type and body on, and nothing else."""
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
