"""What may be registered as a handler, with which model, and what is refused at once."""

import functools
import re
from typing import Any, TypeVar

import attrs
import pytest

from orchestrator import Event, HandlerRegistry, RegistrationError, Run, UnsupportedEventType
from orchestrator.core.handlers.builtin import built_in_handlers

Anything = TypeVar("Anything")


@attrs.frozen
class Order:
    n: int


@attrs.frozen
class Invoice:
    total: int


async def plain(event: Event[Order], run: Run) -> None:
    """The plainest handler."""


async def other(event: Event[Invoice], run: Run) -> None:
    """Another one."""


async def with_string(event: "Event[Order]", run: "Run") -> None:
    """As every annotation is under `from __future__ import annotations`."""


async def with_resource(accounts: list[str], event: Event[Order], run: Run) -> None:
    """To be bound with functools.partial."""


def sync(event: Event[Order], run: Run) -> None:
    """Not a coroutine function."""


async def one(event: Event[Order]) -> None:
    """Too few."""


async def three(event: Event[Order], run: Run, more: int) -> None:
    """Too many."""


async def keyword_only(event: Event[Order], *, run: Run) -> None:
    """Not callable with two positional arguments."""


async def required_option(event: Event[Order], run: Run, *, more: int) -> None:
    """It needs an argument that isn't passed to handlers."""


async def none() -> None:
    """Nothing at all."""


def unawaited(event: Event[Order], run: Run) -> Any:
    """A plain function that returns a coroutine hides what it is."""
    return plain(event, run)


class Accounts:
    async def method(self, event: Event[Order], run: Run) -> None:
        """A bound method."""

    async def __call__(self, event: Event[Order], run: Run) -> None:
        """An object that can be called."""

    @classmethod
    async def of_class(cls, event: Event[Order], run: Run) -> None:
        """A class method."""

    @staticmethod
    async def static(event: Event[Order], run: Run) -> None:
        """A static method."""

    def sync_method(self, event: Event[Order], run: Run) -> None:
        """Not a coroutine function either."""


def logged(handler: Any) -> Any:
    @functools.wraps(handler)
    async def wrapper(event: Any, run: Any) -> None:
        await handler(event, run)

    return wrapper


def model_of(handler: Any, **options: Any) -> Any:
    registry = HandlerRegistry()
    registry.register("ORDER", handler, **options)
    return registry.by_type["ORDER"].payload


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        with_string,
        functools.partial(with_resource, []),
        Accounts().method,
        Accounts(),
        Accounts.of_class,
        Accounts.static,
        functools.partial(Accounts().method),
        functools.partial(Accounts()),
        logged(plain),
    ],
    ids=[
        "function",
        "string annotation",
        "partial",
        "bound method",
        "callable object",
        "class method",
        "static method",
        "partial of a method",
        "partial of an object",
        "decorated",
    ],
)
def test_whatever_is_called_with_event_and_run_can_be_a_handler(handler: Any) -> None:
    """The handler is kept as it is, with the model of its annotation."""
    registry = HandlerRegistry()
    registry.register("ORDER", handler)
    registration = registry.by_type["ORDER"]
    assert registration.handler is handler
    assert registration.payload is Order


@pytest.mark.parametrize(
    "handler", [sync, unawaited, Accounts().sync_method, functools.partial(sync), Accounts, print]
)
def test_a_handler_that_is_no_coroutine_function_is_refused(handler: Any) -> None:
    """A sync function would block every tenant; it is refused when it is registered."""
    with pytest.raises(RegistrationError, match="is not a coroutine function: write `async def`"):
        HandlerRegistry().register("ORDER", handler)


async def optional_third(event: Event[Order], run: Run, more: object = None) -> None: ...


async def any_number(*arguments: object) -> None: ...


def test_a_partial_may_bind_the_rest_by_name() -> None:
    """An argument that a partial has bound by name counts as none of the handler's."""

    async def handle(event: Event[Order], run: Run, accounts: object) -> None: ...

    registry = HandlerRegistry()
    registry.register("ORDER", functools.partial(handle, accounts=[]))
    assert registry.by_type["ORDER"].payload is Order


@pytest.mark.parametrize("annotation", ["attrs.Nope", "Event[", "Event['Later']"])
def test_an_annotation_that_leads_nowhere_is_refused(annotation: str) -> None:
    """Whatever is wrong with it, the refusal names the handler and the way out."""

    async def handle(event: object, run: Run) -> None: ...

    handle.__annotations__["event"] = annotation
    with pytest.raises(RegistrationError, match="pass payload=Model"):
        HandlerRegistry().register("ORDER", handle)


@pytest.mark.parametrize(
    "handler",
    [
        one,
        three,
        none,
        keyword_only,
        required_option,
        with_resource,
        Accounts.method,
        functools.partial(with_resource, accounts=[]),
        optional_third,
        any_number,
        functools.partial(logged(plain), object()),
    ],
)
def test_wrong_arity_is_refused(handler: Any) -> None:
    """What can't be called as (event, run) is refused when it is registered."""
    with pytest.raises(RegistrationError, match=r"must take exactly two arguments, \(event, run\)"):
        HandlerRegistry().register("ORDER", handler)


def test_a_refusal_names_the_handlers_place() -> None:
    """Module, name, file and line lead to the mistake."""
    line = sync.__code__.co_firstlineno
    with pytest.raises(RegistrationError) as refused:
        HandlerRegistry().register("ORDER", sync)  # type: ignore[arg-type]
    assert re.search(rf"test_registry\.sync \(.*test_registry\.py:{line}\)", str(refused.value))


def test_an_event_type_needs_a_name() -> None:
    """An empty event type is the type of no event."""
    with pytest.raises(RegistrationError, match="without a name"):
        HandlerRegistry().register("", plain)


@pytest.mark.parametrize(
    "annotation",
    [Event[dict], Event[dict[str, Any]], Event[Any], Event[Anything], Event, Any, None, Order],  # type: ignore[type-arg, valid-type]
)
def test_without_a_model_the_body_is_not_validated(annotation: Any) -> None:
    """`Event[dict]`, a bare Event and no annotation of ours leave the payload as it is."""

    async def handler(event: Any, run: Run) -> None:
        """Handle nothing."""

    handler.__annotations__["event"] = annotation
    assert model_of(handler) is None


def test_a_handler_without_annotations_is_not_validated() -> None:
    """A handler without annotations has no model."""

    async def handler(event, run):  # type: ignore[no-untyped-def]
        """Handle nothing."""

    assert model_of(handler) is None


@pytest.mark.parametrize(("payload", "model"), [(Invoice, Invoice), (None, None)])
def test_the_payload_argument_outranks_the_annotation(payload: Any, model: Any) -> None:
    """`payload=Model` is the model, and `payload=None` switches validation off."""
    assert model_of(plain, payload=payload) is model
    registry = HandlerRegistry()
    registry.on("ORDER", payload=payload)(plain)
    assert registry.by_type["ORDER"].payload is model


def test_an_annotation_that_cannot_be_resolved_is_refused() -> None:
    """A name that the module doesn't have is an error at start, with the way out."""

    async def handler(event: "Event[Nowhere]", run: Run) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Handle nothing."""

    with pytest.raises(RegistrationError, match=r"Event\[Nowhere\].*pass payload=Model"):
        HandlerRegistry().register("ORDER", handler)
    assert model_of(handler, payload=Order) is Order


def test_only_the_events_annotation_must_be_resolvable() -> None:
    """The other annotations may stand under TYPE_CHECKING."""

    async def handler(event: "Event[Order]", run: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        """Handle nothing."""

    assert model_of(handler) is Order


def test_the_decorator_registers_and_returns_the_handler() -> None:
    """`on` leaves the function callable as it was, for one type after another."""
    registry = HandlerRegistry()
    decorated = registry.on("REORDER")(registry.on("ORDER")(plain))
    assert decorated is plain
    assert registry.by_type["ORDER"].handler is registry.by_type["REORDER"].handler is plain


def test_two_handlers_for_one_type_are_refused_with_both_places() -> None:
    """The error at start names the type and where each of the two is."""
    registry = HandlerRegistry()
    registry.register("ORDER", plain)
    with pytest.raises(RegistrationError) as refused:
        registry.register("ORDER", other)
    message = str(refused.value)
    assert message.startswith("ORDER has two handlers")
    for handler in (plain, other):
        assert f"{handler.__qualname__} (" in message
        assert f"test_registry.py:{handler.__code__.co_firstlineno})" in message
    assert registry.by_type["ORDER"].handler is plain


def test_the_same_handler_twice_is_refused_as_well() -> None:
    """A module that is imported under two names is found out."""
    registry = HandlerRegistry()
    registry.register("ORDER", plain)
    with pytest.raises(RegistrationError, match="two handlers"):
        registry.register("ORDER", plain)


def test_a_users_handler_replaces_the_default() -> None:
    """`over` takes the user's where there is one, with its model, and defaults for the rest."""
    defaults, users = HandlerRegistry(), HandlerRegistry()
    defaults.register("ORDER", plain)
    defaults.register("INVOICE", other)
    users.register("ORDER", with_string, payload=Invoice)
    users.register("MINE", plain)
    merged = users.over(defaults)
    assert set(merged.by_type) == {"ORDER", "INVOICE", "MINE"}
    assert merged.by_type["ORDER"].handler is with_string
    assert merged.by_type["ORDER"].payload is Invoice
    assert merged.by_type["INVOICE"].handler is other


def test_over_leaves_both_registries_as_they_were() -> None:
    """Two apps may be made of one registry."""
    defaults, users = HandlerRegistry(), HandlerRegistry()
    defaults.register("INVOICE", other)
    users.register("ORDER", plain)
    users.over(defaults).register("MORE", plain)
    assert list(users.by_type) == ["ORDER"]
    assert list(defaults.by_type) == ["INVOICE"]


def test_an_unknown_type_is_unsupported() -> None:
    """It has no registration, and its error has the words of the contract."""
    registry = HandlerRegistry()
    assert "ORDER" not in registry.by_type
    assert str(UnsupportedEventType("ORDER")) == "Unsupported event type: ORDER"
    registry.register("ORDER", plain)
    assert "ORDER" in registry.by_type


@pytest.mark.parametrize(
    "event_type",
    [
        f"TENANT_{operation}{outcome}"
        for operation in ("PROVISIONING", "DEPLOYMENT", "DEPROVISIONING")
        for outcome in ("", "_SUCCESS", "_FAILURE")
    ]
    + ["BUILD_STATE_CHANGE"],
)
def test_every_built_in_type_has_a_handler(event_type: str) -> None:
    """The defaults cover all event types that are built in."""
    assert event_type in built_in_handlers().by_type


def test_a_decorator_without_a_type_is_refused() -> None:
    """`@registry.on` would register nothing, and raise nothing."""
    with pytest.raises(RegistrationError, match=r'write @registry\.on\("EVENT_TYPE"\)'):
        HandlerRegistry().on(plain)  # type: ignore[arg-type]
