"""A user's module: an orchestrator of their own, which doesn't use the default one."""

import json
from typing import Any

from orchestrator import Extension, PermanentError


class Refusing:
    async def handle_event(self, event_type: str, body: Any) -> object:
        if "welcome" in body:
            return "taken"
        raise PermanentError(f"{event_type} {json.dumps(body)}")


extension = Extension(orchestrator=Refusing())
