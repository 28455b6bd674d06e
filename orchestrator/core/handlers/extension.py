"""The extension: a user's own handlers, builders, tiers, orchestrator and lifespan."""

import importlib
import inspect
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from orchestrator.core.errors import RegistrationError
from orchestrator.core.handlers.registry import HandlerRegistry, plain_function
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
        RegistrationError: a part can't be called as it has to be.
    """

    registry: HandlerRegistry = attrs.field(factory=HandlerRegistry)
    builders: Mapping[str, Builder] = attrs.field(factory=dict)
    tiers: TierCatalog | TierFunction | None = None
    orchestrator: Any = None
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None

    def __attrs_post_init__(self) -> None:
        for name, builder in self.builders.items():
            start_job = getattr(builder, "start_job", None)
            if not name or not _takes(start_job, "job", {}, start_key="key"):
                raise RegistrationError(
                    f"The builder {name or 'without a name'} is {type(builder).__name__}: it needs "
                    "an async start_job(job_identifier, params, *, start_key), and a name."
                )
        find_tier = getattr(self.tiers, "find_tier", self.tiers)
        if find_tier is not None and not _takes(find_tier, "tier"):
            raise RegistrationError(
                f"The extension's tiers are {type(self.tiers).__name__}: they must be "
                "async (tier) -> Mapping | None, or an object with an async find_tier."
            )
        given = self.orchestrator
        if given is not None and not (callable(given) or hasattr(given, "handle_event")):
            raise RegistrationError(
                f"The extension's orchestrator is {type(given).__name__}: it must be an object "
                "with async handle_event(event_type, body), or a function that makes one around "
                "the default."
            )
        if self.lifespan is not None and not callable(self.lifespan):
            raise RegistrationError(
                f"The extension's lifespan is {type(self.lifespan).__name__}: it must be a "
                "function without arguments that returns an async context manager."
            )
        if inspect.isasyncgenfunction(self.lifespan):
            raise RegistrationError(
                "The extension's lifespan is an async generator: decorate it with "
                "contextlib.asynccontextmanager."
            )


def _takes(function: Any, *arguments: Any, **named: Any) -> bool:
    """Whether it is a coroutine function that can be called with these arguments."""
    if not inspect.iscoroutinefunction(plain_function(function)):
        return False
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


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
