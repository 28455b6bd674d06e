"""JSON to models and back, as a port."""

from typing import Any, Protocol


class Structure(Protocol):
    """Converts JSON values to models and back."""

    def structure(self, value: object, model: Any) -> Any:
        """`value` as a `model`. Raises InvalidPayload with every mismatch."""

    def unstructure(self, value: object) -> Any:
        """`value` as JSON. Raises TypeError if JSON can't represent it."""
