"""Models as a user may write them, and what is found wrong with a value for one."""

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import attrs
import pytest

from orchestrator.core.errors import InvalidPayload
from orchestrator.core.events.payloads import json_name
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.wire.converter import JsonConverter

WIRE = JsonConverter(Redactor())
A_TIME = datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)
Email = NewType("Email", str)
Held = TypeVar("Held")


class Size(Enum):
    SMALL = "S"
    LARGE = "L"


@attrs.frozen(kw_only=True)
class Address:
    post_code: str
    country: Literal["NO", "NL"] = "NO"


@attrs.frozen(kw_only=True)
class Signup:
    """A user's model, with a field of each kind."""

    email_address: Email
    seats: int = attrs.field(default=1, validator=[attrs.validators.ge(1), attrs.validators.le(9)])
    price: float = 0.0
    is_trial: bool = False
    starts_at: datetime = A_TIME
    size: Size = Size.SMALL
    post_address: Address | None = None
    more_addresses: list[Address] = attrs.field(factory=list)
    limits: dict[str, int] = attrs.field(factory=dict)
    labels: tuple[str, ...] = ()
    tax_id: str | None = attrs.field(default=None, metadata=json_name("TAX-ID"))


@attrs.frozen
class Page(Generic[Held]):
    all_items: list[Held]


@attrs.define
class Plain:
    """A mutable model with positional fields serves as well."""

    first_name: str
    ratio: Annotated[float, "of something"] = attrs.field(validator=attrs.validators.gt(0))


def mismatches(value: object, model: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPayload) as refused:
        WIRE.structure(value, model)
    return [(mismatch.path, mismatch.message) for mismatch in refused.value.errors]


def signup_mismatches(**fields: Any) -> list[tuple[str, str]]:
    return mismatches({"emailAddress": "a@b.example"} | fields, Signup)
