"""JSON to models and back, as a port."""

from typing import Any, Protocol


class Structure(Protocol):
    """From JSON values to models and back."""

    def structure(self, value: object, model: Any) -> Any:
        """`value` as a `model`. Raises InvalidPayload with every mismatch."""

    def unstructure(self, value: object) -> Any:
        """`value` as JSON. Raises TypeError where JSON has no form for it."""
