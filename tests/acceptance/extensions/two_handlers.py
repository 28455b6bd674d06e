"""A user's module with a mistake: two handlers for one type."""

from typing import Any

from orchestrator import Event, HandlerRegistry, Run

registry = HandlerRegistry()


@registry.on("ORDER")
async def first(event: Event[dict[str, Any]], run: Run) -> None:
    """One."""


@registry.on("ORDER")
async def second(event: Event[dict[str, Any]], run: Run) -> None:
    """Two."""
