"""Schemathesis sends the running service all requests that its own OpenAPI document allows.

Its command line runs in a child process, every check and every phase on, from a fixed seed.
"""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Run,
    Settings,
    TemporaryError,
    create_app,
)
from orchestrator.settings import ApiKey, Auth
from orchestrator.testing import InMemoryBuilder

KEY = "key-1"

CONFIG = f"""
seed = 1

[generation]
deterministic = true
database = "none"
max-examples = 8

[auth.openapi.apiKey]
api_key = "{KEY}"

# The one handler that always asks for patience; any other 5xx is a failure.
[[operations]]
include-path = "/events/BANK_CLOSED"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["400", "422", "503"]

# An event that fits the document may still name another type than its path (400), a type
# without a handler (400), a tier that does not exist (422), or a busy tenant (503).
[[operations]]
include-tag = "events"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "422", "503"]

# A finished run is replayed by force only (422), and not while its operation is open (503).
[[operations]]
include-path = "/runs/{{runId}}/replay"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "422", "503"]

# There may be no open operation to cancel (422), or a run of it is in progress (503).
[[operations]]
include-path = "/tenants/{{tenantId}}/cancel"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "422", "503"]

# A cursor is opaque: the document can't say which texts are no cursors of this service.
[[operations]]
include-path-regex = "^/(runs|tenants|tenants/[^/]*)$"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404"]
"""


@attrs.frozen
class Plan:
    tier: str
    seats: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Registration:
    email: str
    plan: Plan
    tags: list[str] = attrs.field(factory=list)


def users_registry() -> HandlerRegistry:
    """Some types of a user's: one with a model, one whose name has spaces, one that is never
    ready."""
    registry = HandlerRegistry()

    @registry.on("TENANT_REGISTRATION")
    async def register(event: Event[Registration], run: Run) -> None:
        """Nothing to do."""

    @registry.on("Tenant Renamed")
    async def rename(event: Event[dict[str, Any]], run: Run) -> None:
        """Nothing to do."""

    @registry.on("BANK_CLOSED")
    async def wait(event: Event[Plan], run: Run) -> None:
        raise TemporaryError("The bank is closed until nine.", retry_after_s=41.2)

    return registry


async def schemathesis(url: str, document: bytes, folder: Path) -> tuple[int | None, str]:
    """Send the service at `url` what its document allows; returns the exit code and the output."""
    (folder / "openapi.json").write_bytes(document)
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--no-color",
        "--config-file",
        str(config),
        "run",
        "openapi.json",
        "--url",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.timeout(600)
async def test_the_service_conforms_to_its_openapi_document(
    settings: Settings, tmp_path: Path
) -> None:
    """There is no undocumented answer, no 5xx but the documented 503, and no route without its
    key."""
    app = create_app(
        attrs.evolve(settings, auth=Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,)))),
        extension=Extension(registry=users_registry(), builders={"CODE_BUILD": InMemoryBuilder()}),
    )
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        async with client.get("/openapi.json", headers={"x-api-key": KEY}) as answer:
            document = await answer.read()
        code, said = await schemathesis(str(client.make_url("/")), document, tmp_path)
    assert code == 0, said
    selected = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", said)
    assert selected is not None, said
    assert len(set(selected.groups())) == 1, said
    generated = re.search(r"(\d+) generated", said)
    assert generated is not None, said
    assert int(generated[1]) > 500, said
