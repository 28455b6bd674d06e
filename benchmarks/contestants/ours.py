"""The extensions with which `orchestrator serve` runs: types whose handler does nothing.

Their payload is a model of the same fields as FastAPI's.
"""

import attrs

from orchestrator import Event, Extension, HandlerRegistry, Run

#: An event of this type passes through the whole pipeline, and its handler returns at once.
EMPTY = "BENCHMARK_EMPTY"


@attrs.frozen
class Tenant:
    id: str
    name: str
    key: str


@attrs.frozen
class PlanConfig:
    tier: str


@attrs.frozen
class Payload:
    tenant: Tenant
    plan: PlanConfig = attrs.field(metadata={"json_name": "planConfig"})


async def do_nothing(event: Event[Payload], run: Run) -> None:
    """Return at once: what is measured is the pipeline around the handler."""


def _extension(types: int) -> Extension:
    registry = HandlerRegistry()
    for event_type in (EMPTY, *(f"{EMPTY}_{number}" for number in range(1, types))):
        registry.register(event_type, do_nothing)
    return Extension(registry=registry)


extension = _extension(10)
many_types = _extension(1000)
