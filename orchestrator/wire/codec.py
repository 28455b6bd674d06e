"""JSON text to values and back."""

import codecs
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.json_text import parse_json

Model = TypeVar("Model")


def decode_json(text: bytes) -> Any:
    """The value of a JSON text (RFC 8259).

    Raises:
        BadEvent: it isn't JSON, or refused by the one reader of all texts (`core.json_text`).
    """
    if not text.removeprefix(codecs.BOM_UTF8).strip():
        raise BadEvent("The body is empty: send a JSON object.")
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadEvent(f"The body is not JSON: {error}.") from None


def encode_json(value: object) -> bytes:
    """`value`, which is JSON already, as text."""
    return msgspec.json.encode(value)


def structure_texts(texts: Mapping[str, str], model: type[Model]) -> Model:
    """A `model` of values that are all text, as those of a query: here "5" may be a number.

    Raises:
        ValueError: one doesn't fit.
    """
    try:
        structured = msgspec.convert(texts, model, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    for name in texts:
        # msgspec takes the text "null" for None.
        if getattr(structured, name) is None:
            raise ValueError(f"'null' is no value - at `$.{name}`")
    return structured
