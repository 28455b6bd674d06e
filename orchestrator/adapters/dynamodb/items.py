"""Converts records to items of the ledger's table and back, with the attributes of its indexes.

An item has the record's `key` and `version`, the record as JSON in `data`, the number of its
`format`, and the attributes that the indexes need.

`ledger_indexes.py` has the indexes.

A release reads the items of all before it, and changes them to its format as it writes them.
Fields and attributes that a newer release wrote are kept with the record (`Stored.unknown`) and
written back, with the number of their format, so that a replica of this release doesn't delete
them. A value that this release can't interpret, such as an unknown status, makes the item
unreadable to it.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import attrs
import msgspec

from orchestrator.adapters.ledger_indexes import INDEXES, Index, index_attributes
from orchestrator.core.events.json_text import to_json_text
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.record_parts import Stored
from orchestrator.core.ledger.records import (
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    SecretsRecord,
    TenantRecord,
)

Item = dict[str, Any]
#: A record as JSON.
Document = dict[str, Any]

#: The attribute of DynamoDB's time to live.
EXPIRY = "expires_at"
#: The number of the format in which this release writes items. Those of the first release, 1, have
#: none. `tests/data/` has items of each.
FORMAT = 2
_FORMAT = "format"
_LONGEST_KEY_BYTES = 2048

_MODELS: Mapping[str, type[Record]] = {
    "RUN": RunRecord,
    "OP": OperationRecord,
    "TENANT": TenantRecord,
    "JOB": JobRecord,
    "REGISTRATION": RegistrationRecord,
    "SECRETS": SecretsRecord,
}


#: The key in a record's `unknown` of unknown attributes beside `data`; no field has that name.
_BESIDE = "#"
#: The attributes that this release writes; each is set from the record, or removed.
_KNOWN = frozenset(
    {"key", "version", "data", _FORMAT, EXPIRY}
    | {name for index in INDEXES for name in (index.partition, index.sort)}
)


def table_schema(table: str) -> dict[str, Any]:
    """The parameters of CreateTable."""
    names = {"key"} | {name for index in INDEXES for name in (index.partition, index.sort)}
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in sorted(names)
        ],
        "GlobalSecondaryIndexes": list(map(index_schema, INDEXES)),
    }


def index_schema(index: Index) -> dict[str, Any]:
    """The parameters of an index in CreateTable and UpdateTable."""
    return {
        "IndexName": index.name,
        "KeySchema": [
            {"AttributeName": index.partition, "KeyType": "HASH"},
            {"AttributeName": index.sort, "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }


def build_item(record: Record, *, expires_at: datetime | None) -> Item:
    """The item of the record's next version; `expires_at` is when DynamoDB may delete it."""
    inside = {name: value for name, value in record.unknown.items() if name != _BESIDE}
    kept = evolve(record, version=record.version + 1, unknown=inside)
    item: Item = {
        _FORMAT: {"N": str(FORMAT)},
        **record.unknown.get(_BESIDE, {}),
        "key": {"S": kept.key},
        "version": {"N": str(kept.version)},
    }
    if isinstance(kept, PayloadRecord):
        item["data"] = {"B": kept.data}
    else:
        document = _each_object(msgspec.to_builtins(kept), type(kept), _with_unknown_spread)
        item["data"] = {"S": to_json_text(document)}
    item |= {name: {"S": value} for name, value in index_attributes(kept).items()}
    if expires_at is not None:
        item[EXPIRY] = {"N": str(int(expires_at.timestamp()))}
    return item


def read_item(item: Mapping[str, Any]) -> Record:
    """Parse the record of an item.

    Raises:
        ValueError: this release can't parse it; the message says where it differs.
    """
    try:
        return _read(item)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no record: {type(error).__name__} {error}") from error


def _read(item: Mapping[str, Any]) -> Record:
    kind, _, name = item["key"]["S"].partition("#")
    beside = {name: value for name, value in item.items() if name not in _KNOWN}
    if _FORMAT in item and int(item[_FORMAT]["N"]) > FORMAT:
        beside[_FORMAT] = item[_FORMAT]
    if kind == "PAYLOAD":
        return PayloadRecord(
            run_id=name,
            data=bytes(item["data"]["B"]),
            version=int(item["version"]["N"]),
            unknown={_BESIDE: beside} if beside else {},
        )
    model = _MODELS[kind]
    document = _each_object(json.loads(item["data"]["S"]), model, _with_unknown_gathered)
    record: Record = msgspec.convert(document, type=model)
    return evolve(record, unknown={**record.unknown, _BESIDE: beside}) if beside else record


def _with_unknown_gathered(document: Document, model: type) -> Document:
    """Move fields that `model` doesn't have to `unknown`."""
    names = _kinds(model)
    if document.keys() <= names.keys():
        return document
    unknown = {name: document[name] for name in document if name not in names}
    known = {name: document[name] for name in document if name in names}
    return {**known, "unknown": unknown}


def _with_unknown_spread(document: Document, model: type) -> Document:
    """The inverse, for storing: move the fields of `unknown` back to the object, and leave out
    sparse fields that have their defaults."""
    unknown = document.pop("unknown")
    for name in _sparse(model):
        if not document[name]:
            del document[name]
    return {**unknown, **document} if unknown else document


def _each_object(value: Any, kind: Any, change: Callable[[Document, type], Document]) -> Any:
    """`value`, new JSON of type `kind`, with `change` applied to each object in it that has a
    model."""
    origin, inner = get_origin(kind), get_args(kind)
    match value:
        case dict() if _is_model(kind):
            for name, one in _models_within(kind).items():
                if value.get(name):
                    value[name] = _each_object(value[name], one, change)
            return change(value, kind)
        case dict() if origin is Mapping:
            return {name: _each_object(one, inner[1], change) for name, one in value.items()}
        case list() | tuple() if origin is tuple:
            return [_each_object(one, inner[0], change) for one in value]
        case dict() if origin is UnionType:  # such as Job | None
            return _each_object(value, inner[0], change)
    return value


def _is_model(kind: Any) -> bool:
    return Stored in getattr(kind, "__mro__", ())


@cache
def _kinds(model: Any) -> Mapping[str, Any]:
    """The types of a model's fields."""
    return get_type_hints(model)


@cache
def _sparse(model: Any) -> tuple[str, ...]:
    """The fields of a model that are left out while they have their defaults."""
    return tuple(
        field.name for field in attrs.fields(model) if field.metadata.get("is_sparse", False)
    )


@cache
def _models_within(model: Any) -> Mapping[str, Any]:
    """The fields of a model that hold models, and their types."""
    return {name: kind for name, kind in _kinds(model).items() if _holds_models(kind)}


def _holds_models(kind: Any) -> bool:
    return _is_model(kind) or any(map(_holds_models, get_args(kind)))


def may_be_a_key(text: str) -> bool:
    """Whether it can be a key: a longer one than DynamoDB allows doesn't exist (developer guide,
    Constraints)."""
    return 0 < len(text.encode(errors="replace")) <= _LONGEST_KEY_BYTES
