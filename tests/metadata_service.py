"""An instance's metadata service, and a container's, on loopback, ready on demand.

Instance: EC2 user guide, Instance metadata; container: ECS developer guide, Task IAM role.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import attrs
from aiohttp import web

_HOST = "127.0.0.1"
_ROLE = "orchestrator"
_PLACE = "/latest/meta-data/iam/security-credentials/"


@attrs.define
class MetadataService:
    """Until it `is_ready` it has no role; `asked` are the requested paths."""

    url: str = ""
    is_ready: bool = False
    asked: list[str] = attrs.field(factory=list)

    def instance(self) -> dict[str, str]:
        """The variables by which the SDK takes credentials from an instance's service."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def container(self) -> dict[str, str]:
        """The same for a container's."""
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/container"}

    async def handle_request(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/latest/api/token":
            return web.Response(text="token")
        if not self.is_ready:
            return web.Response(status=404)
        if request.path == _PLACE:
            return web.Response(text=_ROLE)
        # The SDK uses its own clock.
        expires = datetime.now(UTC) + timedelta(hours=6)
        return web.json_response(
            {
                "Code": "Success",
                "AccessKeyId": "testing",
                "SecretAccessKey": "testing",
                "Token": "testing",
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


@asynccontextmanager
async def open_metadata_service() -> AsyncIterator[MetadataService]:
    service = MetadataService()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, _HOST, 0).start()
    service.url = f"http://{_HOST}:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
