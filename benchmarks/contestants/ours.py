"""The extension with which `orchestrator serve` runs: a type whose handler does nothing.

Its payload is a model of the same fields as FastAPI's.
"""

import attrs

from orchestrator import Event, Extension, HandlerRegistry, Run

#: An event of this type goes the whole way, and its handler returns at once.
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


registry = HandlerRegistry()


@registry.on(EMPTY)
async def do_nothing(event: Event[Payload], run: Run) -> None:
    """The cost of an event is all around this."""


extension = Extension(registry=registry)
