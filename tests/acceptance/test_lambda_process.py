"""The life of a Lambda function's process: how it is set up, fails to start, and closes."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestrator import Extension, Settings, create_app
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import child_environment
from tests.acceptance.lambda_functions import MINE, ask, post
from tests.acceptance.ways import Document, http_api_event, read_lambda_answer, rest_api_event

EXTENSION = """
from contextlib import asynccontextmanager
from orchestrator import Extension, HandlerRegistry

registry = HandlerRegistry()
entered = []

@asynccontextmanager
async def lifespan():
    entered.append(1)
    yield

@registry.on("MY_EVENT")
async def handle(event, run):
    if len(entered) != 1:
        raise ValueError(entered)

extension = Extension(registry=registry, lifespan=lifespan)
"""


INVOKE = """
import json, sys
from orchestrator.lambda_handler import NotStartedError, handler

class Context:
    def get_remaining_time_in_millis(self):
        return 30_000

def invoke(event):
    try:
        return handler(event, Context())
    except NotStartedError as error:
        return {"errorMessage": str(error)}

print("\\n" + json.dumps([invoke(event) for event in json.load(sys.stdin)]))
"""


async def invoke(folder: Path, *events: Document, **environment: str) -> tuple[list[Any], str]:
    """The answers of the module's own handler in a process of its own, as Lambda runs one, and its
    log."""
    (folder / "my_extension.py").write_text(EXTENSION)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        INVOKE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({"PYTHONPATH": f"{folder}:{':'.join(sys.path)}", **environment}),
    )
    out, err = await process.communicate(json.dumps(events).encode())
    assert process.returncode == 0, err.decode()
    return json.loads(out.splitlines()[-1]), err.decode()


async def test_the_functions_handler_is_set_up_by_the_environment(tmp_path: Path) -> None:
    """The extension and the settings of ORCHESTRATOR_… serve every invocation of the process."""
    key = {"x-api-key": "key-1"}
    events = (
        post(http_api_event, headers={"x-api-key": "key-2"}),
        post(http_api_event, headers=key),
        post(rest_api_event, headers=key),
        post(http_api_event, "/events/TENANT_PARTY", b"{}", headers=key),
        post(http_api_event, body=MINE.ljust(2001), headers=key),
    )
    said, _ = await invoke(
        tmp_path,
        *events,
        ORCHESTRATOR_LEDGER__BACKEND="memory",
        ORCHESTRATOR__EXTENSION="my_extension:extension",
        ORCHESTRATOR_AUTH__METHODS='["api_key"]',
        ORCHESTRATOR_AUTH__API_KEY__KEYS='["key-1"]',
        ORCHESTRATOR_HTTP__MAX_BODY_BYTES="2000",
    )
    answers = [read_lambda_answer(*pair) for pair in zip(said, events, strict=True)]
    refused, first, again, unhandled, too_large = answers
    statuses = [answer.status for answer in (refused, first, again, unhandled, too_large)]
    assert statuses == [401, 200, 200, 400, 413]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        pytest.param({"ORCHESTRATOR_CONFIG": "production.toml"}, r"auth\.methods", id="open"),
        pytest.param({"ORCHESTRATOR_HTTP__PORT": "many"}, r"http\.port", id="wrong setting"),
        pytest.param({"ORCHESTRATOR_HTTP__BASE_PATH": "/events"}, "base_path", id="base path"),
        pytest.param({"ORCHESTRATOR__EXTENSION": "nowhere:it"}, "nowhere:it", id="extension"),
    ],
)
async def test_a_function_that_cannot_start_reports_the_reason(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    """Each invocation tries to start again, and a failure is one sentence in the log and as the
    error."""
    event = post(http_api_event)
    said, log = await invoke(
        tmp_path, event, event, **{"ORCHESTRATOR_LEDGER__BACKEND": "memory", **environment}
    )
    assert len(said) == 2
    for one in said:
        assert re.search(f"^The service can't start: .*{sentence}", one["errorMessage"])
        assert "\n" not in one["errorMessage"]
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["event"] for line in lines] == ["the service can't start"] * 2
    assert all(re.search(sentence, line["reason"]) for line in lines)


def test_a_start_that_fails_leaves_nothing_open(settings: Settings) -> None:
    """A start that fails closes what it has opened, and the next try may succeed."""
    opened, closed = list[int](), list[int]()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        opened.append(1)
        yield
        closed.append(1)

    async def fail(_: web.Application) -> None:
        if len(opened) == 1:
            raise ValueError("a bad start")

    def build() -> web.Application:
        app = create_app(settings, extension=Extension(lifespan=lifespan), hands_back=True)
        app.on_startup.append(fail)
        return app

    with pytest.raises(ValueError, match="a bad start"):
        LambdaService(build())
    assert (opened, closed) == ([1], [1])
    service = LambdaService(build())
    assert ask(service, http_api_event("GET", "/healthz")).status == 200
    service.close()


def test_closing_leaves_nothing_behind(settings: Settings) -> None:
    """Closing the service removes its socket."""
    service = LambdaService(create_app(settings))
    folder = Path(service._folder.name)
    assert folder.exists()
    service.close()
    assert not folder.exists()
