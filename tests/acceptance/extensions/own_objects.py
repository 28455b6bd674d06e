"""A user's module: tiers as an object, the orchestrator as a class, CodeBuild replaced by name."""

from collections.abc import Mapping
from typing import Any

from orchestrator import Extension, Job, PermanentError


class Plans:
    async def find_tier(self, tier: str) -> Mapping[str, Any] | None:
        return {"jobIdentifier": "own-cluster", "REPLICAS": 3} if tier == "TEAM" else None


class PaperBuilder:
    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job_id = f"{job_identifier} x {params['REPLICAS']}"
        return Job(id=job_id, builder="CODE_BUILD", job_identifier=job_identifier)


class Gate:
    """An orchestrator that accepts one kind of sender only, by the envelope."""

    def __init__(self, default: Any) -> None:
        self._default = default

    async def handle_event(self, event_type: str, body: Any) -> object:
        if body.get("source") == "stranger":
            raise PermanentError(f"{event_type} of {sorted(body['detail'])} is not for us.")
        return await self._default.handle_event(event_type, body)


extension = Extension(builders={"CODE_BUILD": PaperBuilder()}, tiers=Plans(), orchestrator=Gate)
