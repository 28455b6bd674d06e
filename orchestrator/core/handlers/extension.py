"""The extension: a user's own handlers, builders, tiers, orchestrator and lifespan."""

import importlib
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from orchestrator.core.errors import RegistrationError
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.tier_catalog import TierCatalog, TierFunction


@attrs.frozen(kw_only=True)
class Extension:
    """A user's own parts; all are optional, with built-in defaults.

    `tiers` is `async (tier) -> Mapping | None` or an object with `find_tier`. `builders` are added
    to the built-in ones by name, or replace them. `orchestrator` is an object with
    `async handle_event(event_type, body)`, or a function that gets the default orchestrator and
    returns one. `lifespan` is a function that returns an async context manager, entered at start;
    its value is every run's `resources`.

    Raises:
        RegistrationError: a part doesn't have the required methods.
    """

    registry: HandlerRegistry = attrs.field(factory=HandlerRegistry)
    builders: Mapping[str, Builder] = attrs.field(factory=dict)
    tiers: TierCatalog | TierFunction | None = None
    orchestrator: Any = None
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None

    def __attrs_post_init__(self) -> None:
        for name, builder in self.builders.items():
            if not callable(getattr(builder, "start_job", None)):
                raise RegistrationError(
                    f"The builder {name} is {type(builder).__name__}: it needs an async start_job."
                )
        if self.tiers is not None and not (
            callable(self.tiers) or callable(getattr(self.tiers, "find_tier", None))
        ):
            raise RegistrationError(
                f"The extension's tiers are {type(self.tiers).__name__}: they must be "
                "async (tier) -> Mapping | None, or an object with an async find_tier."
            )


def load_extension(reference: str) -> Extension:
    """Import the `Extension`, or `HandlerRegistry`, at `package.module:name`.

    Raises:
        RegistrationError: there is no such module or name, it is neither, or the import fails.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise RegistrationError(
            f"The extension {reference!r} must be written as package.module:name."
        )
    try:
        module = importlib.import_module(module_name)
    except RegistrationError:
        raise
    except ImportError as error:
        raise RegistrationError(
            f"The extension {reference!r} can't be imported: {error}. Is it installed, or in "
            "the folder that --app-dir names?"
        ) from error
    except Exception as error:
        raise RegistrationError(
            f"The extension {reference!r} can't be imported: its module raised "
            f"{type(error).__name__}: {error}."
        ) from error
    try:
        found = operator.attrgetter(name)(module)
    except AttributeError as error:
        raise RegistrationError(f"The extension {reference!r} is not there: {error}.") from error
    if isinstance(found, HandlerRegistry):
        return Extension(registry=found)
    if not isinstance(found, Extension):
        raise RegistrationError(
            f"The extension {reference!r} is {type(found).__name__}: it must be an Extension or "
            "a HandlerRegistry."
        )
    return found
