"""The registry: the handler of each event type.

Handlers are registered at start, and checked then: one that could not be called is refused, with
the place of its definition.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Mapping
from types import EllipsisType, MappingProxyType
from typing import Any, TypeVar

import attrs

from orchestrator.core.errors import RegistrationError
from orchestrator.core.events.event import Event
from orchestrator.core.handlers.run import Run

Handler = Callable[[Event[Any], Run], Awaitable[None]]
HandlerT = TypeVar("HandlerT", bound=Callable[..., Awaitable[None]])


@attrs.frozen(kw_only=True)
class Registration:
    """A handler, the model of its payload (None: the body, not validated), and its definition's
    place."""

    event_type: str
    handler: Handler
    payload: Any
    place: str


class HandlerRegistry:
    """The map from event type to handler.

    One handler for each type: a second one is refused, naming both places.
    """

    def __init__(self) -> None:
        self._registrations: dict[str, Registration] = {}
        #: The registrations by event type; read-only.
        self.by_type: Mapping[str, Registration] = MappingProxyType(self._registrations)

    def on(self, event_type: str, *, payload: Any = ...) -> Callable[[HandlerT], HandlerT]:
        """Decorate the handler of `event_type`; see `register`."""
        if callable(event_type):
            raise RegistrationError(
                f'{_place(event_type)} has no event type: write @registry.on("EVENT_TYPE").'
            )

        def decorate(handler: HandlerT) -> HandlerT:
            self.register(event_type, handler, payload=payload)
            return handler

        return decorate

    def register(
        self,
        event_type: str,
        handler: Callable[..., Awaitable[None]],
        *,
        payload: Any | EllipsisType = ...,
    ) -> None:
        """Register `handler`, an `async (event, run)`, for `event_type`.

        Its model is the `Model` of its annotation `Event[Model]`, or `payload`, which takes
        precedence. Without one, with `Event[dict]`, or with `payload=None` the body is not
        validated.

        Raises:
            RegistrationError: not a coroutine function, not callable with two arguments,
                an annotation that can't be resolved, or a type that has a handler already.
        """
        place = _place(handler)
        if not event_type:
            raise RegistrationError(f"{place} is registered for an event type without a name.")
        _check_signature(handler, place)
        model = _annotated_payload(handler, place) if payload is ... else payload
        earlier = self._registrations.get(event_type)
        if earlier is not None:
            raise RegistrationError(
                f"{event_type} has two handlers: {earlier.place} and {place}. Keep one."
            )
        self._registrations[event_type] = Registration(
            event_type=event_type, handler=handler, payload=model, place=place
        )

    def over(self, defaults: "HandlerRegistry") -> "HandlerRegistry":
        """A new registry: these handlers, and the defaults for the other types."""
        merged = HandlerRegistry()
        merged._registrations |= {**defaults.by_type, **self.by_type}
        return merged


def _place(handler: object) -> str:
    target = inspect.unwrap(plain_function(handler))
    name = getattr(target, "__qualname__", repr(handler))
    code = getattr(target, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"{getattr(target, '__module__', '?')}.{name}{where}"


def plain_function(handler: object) -> Any:
    """The plain function behind a partial, a bound method or an object with `__call__`."""
    if isinstance(handler, functools.partial):
        return plain_function(handler.func)
    if inspect.isroutine(handler) or inspect.isclass(handler):
        return handler
    return type(handler).__call__ if callable(handler) else handler


def _check_signature(handler: Callable[..., Any], place: str) -> None:
    if not inspect.iscoroutinefunction(plain_function(handler)):
        raise RegistrationError(f"{place} is not a coroutine function: write `async def`.")
    kinds = [
        parameter.kind
        for parameter in inspect.signature(handler).parameters.values()
        # Arguments that a partial has bound by name stay in its signature, with a default.
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty
    ]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(kinds) != 2 or any(kind not in positional for kind in kinds):
        raise RegistrationError(
            f"{place} must take exactly two arguments, (event, run), and no others."
        )


def _annotated_payload(handler: Callable[..., Any], place: str) -> Any:
    first = next(iter(inspect.signature(handler).parameters.values()))
    annotation = first.annotation
    if isinstance(annotation, str):
        function = inspect.unwrap(plain_function(handler))
        module = sys.modules.get(function.__module__)
        try:
            annotation = typing.get_type_hints(
                _OneHint(first.name, annotation), globalns=getattr(module, "__dict__", {})
            )[first.name]
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            raise RegistrationError(
                f"{place}: the annotation {annotation!r} can't be resolved ({error}); "
                "import it in the module, or pass payload=Model."
            ) from None
    if typing.get_origin(annotation) is not Event:
        return None
    (model,) = typing.get_args(annotation)
    if isinstance(model, typing.ForwardRef):
        raise RegistrationError(
            f"{place}: the model {model.__forward_arg__!r} isn't there yet; pass payload=Model."
        )
    unvalidated = model in (dict, Any) or typing.get_origin(model) is dict
    return None if unvalidated or isinstance(model, TypeVar) else model


class _OneHint:
    """A minimal object for `typing.get_type_hints` to resolve a single annotation.

    The handler's other annotations may be imported under TYPE_CHECKING, and can't be resolved.
    """

    def __init__(self, name: str, annotation: str) -> None:
        self.__annotations__ = {name: annotation}
