"""Converts JSON values to models and back, strictly. The only importer of cattrs.

Strict means that nothing is coerced: `1` is not a string and `"1"` not a number. All mismatches of
a body are reported together, each with its path; one more than `MOST_ERRORS` ends the search, since
a body may have half a million.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache, partial
from typing import Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

import attrs
import msgspec
from cattrs import (
    BaseValidationError,
    ClassValidationError,
    Converter,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.cols import is_mapping
from cattrs.gen import (
    make_dict_structure_fn,
    make_dict_unstructure_fn,
    override,
)
from cattrs.preconf.json import make_converter

from orchestrator.core.errors import MOST_ERRORS, InvalidPayload, PayloadMismatch
from orchestrator.core.events.body import dispensable, read_object
from orchestrator.core.events.payloads import Tenant
from orchestrator.core.events.timestamps import parse_time
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.wire.fields import hidden_fields, names_in_json

Model = TypeVar("Model")
StructureHook = Callable[[Any, Any], Any]


class JsonConverter:
    """The `Structure` port over cattrs; its errors never contain the value of a secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._converter = _build_converter()
        self._redactor = redactor

    def structure(self, value: object, model: Any) -> Any:
        """Structure `value`, parsed JSON, into `model`; None for `model` returns it unchanged.

        Raises:
            InvalidPayload: it doesn't match; `errors` has the first 100 mismatches, and whether
                there are more.
        """
        if model is None:
            return value
        token = _search.set(_Search())
        try:
            return self._converter.structure(value, model)
        except BaseValidationError as error:
            mismatches = tuple(map(self._redacted, _mismatches(error, "$")))
        except (ValueError, TypeError, OverflowError) as error:
            mismatches = (PayloadMismatch("$", _sentence(error)),)
        finally:
            _search.reset(token)
        raise InvalidPayload(mismatches)

    def _redacted(self, mismatch: PayloadMismatch) -> PayloadMismatch:
        """Redact a secret's mismatch, since a validator's message may quote the value."""
        names = re.split(r"[.\[\]]+", mismatch.path)
        return (
            attrs.evolve(mismatch, message="does not fit")
            if any(map(self._redactor.is_secret, names))
            else mismatch
        )

    def unstructure(self, value: object) -> Any:
        """`value` as JSON, without shared objects; NaN and Infinity become null.

        Raises:
            TypeError: JSON can't represent it.
        """
        return msgspec.json.decode(msgspec.json.encode(self._converter.unstructure(value)))


@cache
def _build_converter() -> Converter:
    """Built once a process: compiling a hook takes as long as handling a hundred events."""
    converter = make_converter(detailed_validation=True)

    @converter.register_structure_hook_factory(attrs.has)
    def structure_model(model: Any) -> StructureHook:
        with contextlib.suppress(NameError):  # a class defined in a function can't be resolved
            attrs.resolve_types(get_origin(model) or model)  # such as list["Node"]
        structure: StructureHook = make_dict_structure_fn(model, converter, **_overrides(model))
        return _only(Mapping, "an object", _counted(_passing_over(structure, model)))

    @converter.register_unstructure_hook_factory(attrs.has)
    def unstructure_model(model: Any) -> Any:
        return make_dict_unstructure_fn(model, converter, **_overrides(model))

    @converter.register_structure_hook_factory(is_mapping)
    def structure_mapping(kind: Any) -> StructureHook:
        return _only(Mapping, "an object", _mapping(converter, *get_args(kind)))

    @converter.register_structure_hook_factory(lambda kind: _origin(kind) in (list, Sequence))
    def structure_list(kind: Any) -> StructureHook:
        return _only(list, "a list", _collection(converter, get_args(kind)[0], list))

    @converter.register_structure_hook_factory(lambda kind: _origin(kind) in (set, frozenset))
    def structure_set(kind: Any) -> StructureHook:
        return _only(list, "a list", _collection(converter, get_args(kind)[0], _origin(kind)))

    converter.register_structure_hook(list, _only(list, "a list", lambda value, _: value))

    @converter.register_structure_hook_factory(lambda kind: get_args(kind)[1:] == (...,))
    def structure_tuple(kind: Any) -> StructureHook:
        return _only(list, "a list", _collection(converter, get_args(kind)[0], tuple))

    @converter.register_structure_hook_factory(lambda kind: _origin(kind) is Literal)
    def structure_literal(kind: Any) -> StructureHook:
        return _one_of(get_args(kind))

    for primitive, name in ((str, "a string"), (int, "an integer"), (bool, "true or false")):
        converter.register_structure_hook(primitive, _exactly(primitive, name))
    converter.register_structure_hook(float, _number)
    rfc3339 = "a time as in RFC 3339, such as 2026-11-20T09:14:03Z"
    converter.register_structure_hook(datetime, _from_text(parse_time, rfc3339))
    for kind, name in (
        (bytes, "bytes in Base64"),
        (time, "a time such as 09:14:03"),
        (timedelta, "a duration such as PT90S"),
    ):
        read = partial(msgspec.convert, type=kind)
        converter.register_structure_hook(kind, _from_text(read, name))
        converter.register_unstructure_hook(kind, msgspec.to_builtins)
    converter.register_structure_hook(UUID, _from_text(UUID, "a UUID"))
    converter.register_structure_hook(Decimal, _from_text(Decimal, "a decimal number as text"))
    converter.register_unstructure_hook(UUID, str)
    converter.register_unstructure_hook(Decimal, str)

    # Last: the hook that it wraps is built from those above.
    structure_tenant = converter.get_structure_hook(Tenant)

    @converter.register_structure_hook
    def structure_tenant_or_text(value: Any, _: type[Tenant]) -> Tenant:
        tenant: Tenant = structure_tenant(read_object(value) or value, Tenant)
        return tenant

    return converter


class _Enough(Exception):
    """Ends the search: more mismatches were found than are reported."""


@attrs.define
class _Search:
    """Counts the mismatches found in one value."""

    found: int = 0

    @property
    def is_over(self) -> bool:
        return self.found > MOST_ERRORS

    def count(self, error: Exception) -> None:
        """Count the error of a field or item; those within a group have already been counted."""
        self.found += not isinstance(error, BaseValidationError | _Enough)


_search: ContextVar[_Search] = ContextVar("search")


def _counted(structure: StructureHook) -> StructureHook:
    """A model's hook, with the mismatches of its fields counted."""

    def checked(value: Any, model: Any) -> Any:
        search = _begin()
        try:
            return structure(value, model)
        except ClassValidationError as error:
            for exception in error.exceptions:
                search.count(exception)
            raise

    return checked


def _collection(
    converter: Converter, kind: Any, build: Callable[[Iterable[Any]], Any]
) -> StructureHook:
    """The hook of a list, or of a collection built from one, with items of a `kind`."""
    if kind is Any:
        return lambda value, _: build(value)
    item_hook = _find_hook(converter, kind)

    def structure(value: Any, whole: Any) -> Any:
        search = _begin()
        found: list[Any] = []
        errors: list[Exception] = []
        for index, item in enumerate(value):
            try:
                found.append(item_hook(item, kind))
            except Exception as error:  # noqa: BLE001 - of any hook or validator
                search.count(error)
                errors.append(_at(index, error))
                if search.is_over:
                    break
        if errors:
            raise IterableValidationError("items that don't fit", errors, whole)
        return build(found)

    return structure


def _mapping(converter: Converter, key_kind: Any = Any, kind: Any = Any) -> StructureHook:
    """The hook of an object with keys and values of these kinds."""
    if key_kind is Any and kind is Any:
        return lambda value, _: dict(value)
    key_hook, item_hook = _find_hook(converter, key_kind), _find_hook(converter, kind)

    def structure(value: Any, whole: Any) -> Any:
        search = _begin()
        if kind is Any and set(map(type, value)) <= {key_kind}:
            return dict(value)
        found: dict[Any, Any] = {}
        errors: list[Exception] = []
        for name, item in value.items():
            try:
                structured = item_hook(item, kind)
                found[key_hook(name, key_kind)] = structured
            except Exception as error:  # noqa: BLE001 - of any hook or validator
                search.count(error)
                errors.append(_at(name, error))
                if search.is_over:
                    break
        if errors:
            raise IterableValidationError("values that don't fit", errors, whole)
        return found

    return structure


def _begin() -> _Search:
    """The current search. Raises _Enough if it is over."""
    search = _search.get()
    if search.is_over:
        raise _Enough
    return search


def _at(place: int | str, error: Exception) -> Exception:
    error.__notes__ = [*getattr(error, "__notes__", []), IterableValidationNote("", place, Any)]
    return error


def _find_hook(converter: Converter, kind: Any) -> StructureHook:
    try:
        return converter.get_structure_hook(kind)
    except RecursionError:  # a recursive model: its hook exists later
        return converter.structure


def _origin(kind: Any) -> Any:
    return get_origin(kind)


def _overrides(model: Any) -> dict[str, Any]:
    return {
        name: override(rename=renamed, omit=name in hidden_fields(model))
        for name, renamed in names_in_json(model).items()
    }


def _passing_over(structure: StructureHook, model: Any) -> StructureHook:
    """`structure` for a model with several fields for one fact: fields that don't match are ignored
    if another one gives the fact."""
    fields = attrs.fields(get_origin(model) or model)
    facts = {field.name: field.metadata["spells"] for field in fields if "spells" in field.metadata}
    if not facts:
        return structure
    names = names_in_json(model)

    def structured(value: Any, kind: Any) -> Any:
        search = _begin()
        found_before = search.found
        try:
            return structure(value, kind)
        except ClassValidationError as error:
            odd = {note.name for _, note in error.group_exceptions()[0]}
            misfits = {names[name]: fact for name, fact in facts.items() if name in odd}
            left_out = dispensable(model, value, misfits)
            if not left_out:
                raise
        # Mismatches of ignored fields don't count.
        search.found = found_before
        return structure({name: value[name] for name in value if name not in left_out}, kind)

    return structured


def _only(kind: type, name: str, structure: StructureHook) -> StructureHook:
    def checked(value: Any, model: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"must be {name}")
        return structure(value, model)

    return checked


def _exactly(primitive: type, name: str) -> StructureHook:
    def checked(value: Any, kind: Any) -> Any:
        if type(value) is not primitive:
            raise TypeError(f"must be {name}")
        # cattrs dispatches a StrEnum or an IntEnum as the primitive that it is, too.
        is_enum = isinstance(kind, type) and issubclass(kind, Enum)
        return kind(value) if is_enum else value

    return checked


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError("must be a number")
    return float(value)


def _one_of(allowed: tuple[Any, ...]) -> StructureHook:
    def checked(value: Any, _: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise TypeError(f"must be one of {', '.join(map(repr, allowed))}")
        return value

    return checked


def _from_text(kind: Callable[[str], Any], name: str) -> StructureHook:
    def parse(value: Any, _: Any) -> Any:
        if isinstance(value, str):
            with contextlib.suppress(ValueError, ArithmeticError, msgspec.MsgspecError):
                return kind(value)
        raise TypeError(f"must be {name}")

    return parse


def _mismatches(error: BaseException, path: str) -> Iterator[PayloadMismatch]:
    match error:
        case _Enough():
            return
        case ClassValidationError():
            inner, own = error.group_exceptions()
            names = names_in_json(error.cl)
            for exception, note in inner:
                yield from _mismatches(exception, f"{path}.{names.get(note.name, note.name)}")
            for exception in own:
                blamed = _blamed_field(exception, names)
                yield from _mismatches(exception, f"{path}.{names[blamed]}" if blamed else path)
        case IterableValidationError():
            items, own = error.group_exceptions()
            for exception, item in items:
                place = f"[{item.index}]" if isinstance(item.index, int) else f".{item.index}"
                yield from _mismatches(exception, path + place)
            for exception in own:
                yield from _mismatches(exception, path)
        case KeyError():
            yield PayloadMismatch(path, "is required")
        case _:
            yield PayloadMismatch(path, _sentence(error))


def _blamed_field(error: BaseException, names: Iterable[str]) -> str | None:
    """The field whose validator raised, from the message: attrs' validators quote its name."""
    return next((name for name in names if f"'{name}'" in _sentence(error)), None)


def _sentence(error: BaseException) -> str:
    """The message of an error; the first argument of attrs' validators' errors."""
    return str(error.args[0]) if error.args else type(error).__name__
