"""An in-memory secret store."""

import attrs

from orchestrator.core.errors import SecretNotFound


@attrs.define
class InMemorySecretStore:
    """Secrets by name."""

    reference_type: str = "SECRETS_MANAGER"
    kept: dict[str, str] = attrs.field(init=False, factory=dict)

    async def put(self, *, name: str, value: str) -> None:
        self.kept[name] = value

    async def read(self, *, name: str) -> str:
        if name not in self.kept:
            raise SecretNotFound(name, "memory")
        return self.kept[name]

    async def remove(self, *, name: str) -> None:
        self.kept.pop(name, None)
