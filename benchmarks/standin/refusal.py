"""How AWS refuses."""

from typing import Any


class Refused(Exception):
    """A request that AWS answers with an error of this code."""

    def __init__(self, code: str, message: str, **further: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.document = {"__type": f"benchmark#{code}", "message": message, **further}
