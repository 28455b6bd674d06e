"""What a user brings along, in one value: handlers, and pieces in place of ours."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from orchestrator.core.ports import Builder, TierCatalog, TierFunction
from orchestrator.core.registry import HandlerRegistry


@attrs.frozen(kw_only=True)
class Extension:
    """Every piece is optional; what is left out is ours.

    `tiers` is `async (tier) -> Mapping | None` or an object with `find_tier`. `builders`
    go by name beside the built-in ones, or in their place. `orchestrator` is an object
    with `async handle_event(event_type, body)`, or a function of ours that returns one.
    `lifespan` is a function that returns an async context manager, entered at start; its
    value is every run's `resources`.
    """

    registry: HandlerRegistry = attrs.field(factory=HandlerRegistry)
    builders: Mapping[str, Builder] = attrs.field(factory=dict)
    tiers: TierCatalog | TierFunction | None = None
    orchestrator: Any = None
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
