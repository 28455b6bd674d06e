"""Decodes and encodes JSON text."""

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
        BadEvent: it isn't JSON, or `core.events.json_text` refuses it.
    """
    if not text.removeprefix(codecs.BOM_UTF8).strip():
        raise BadEvent("The body is empty: send a JSON object.")
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadEvent(f"The body is not JSON: {error}.") from None


def encode_json(value: object) -> bytes:
    """The JSON text of `value`, which consists of JSON types only."""
    return msgspec.json.encode(value)


def structure_texts(texts: Mapping[str, str], model: type[Model]) -> Model:
    """Structure values that are all text, as in a query, into `model`: "5" may be a number.

    Raises:
        ValueError: a value doesn't match.
    """
    try:
        structured = msgspec.convert(texts, model, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    for name in texts:
        # msgspec reads the text "null" as None.
        if getattr(structured, name) is None:
            raise ValueError(f"'null' is not allowed - at `$.{name}`")
    return structured
