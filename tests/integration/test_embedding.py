"""The service in other programs: served by aiohttp's own runner, and installed from the bare
wheel."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

_SERVED = """
import asyncio, pathlib, sys
from aiohttp import web
from orchestrator import Extension, HandlerRegistry, create_app

registry = HandlerRegistry()

@registry.on("SLOW")
async def slow(event, run):
    print("handling", flush=True)
    await asyncio.to_thread(pathlib.Path("end").read_text)

app = create_app(extension=Extension(registry=registry))


def say(text):
    print(text, flush=True)

web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=say)
"""


async def test_run_app_drains(tmp_path: Path, unused_tcp_port: int) -> None:
    """An event that is being handled at SIGTERM is finished and answered, as `serve` does."""
    os.mkfifo(tmp_path / "end")
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own interpreter
        [sys.executable, "-c", _SERVED, str(unused_tcp_port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    try:
        _wait_for(lines, "Running on")
        url = f"http://127.0.0.1:{unused_tcp_port}/events/SLOW"
        async with aiohttp.ClientSession() as http:

            async def send() -> int:
                async with http.post(url, json={}) as answer:
                    return answer.status

            sending = asyncio.create_task(send())
            await asyncio.to_thread(_wait_for, lines, "handling")
            process.terminate()
            await asyncio.to_thread(_wait_for, lines, "draining")
            await asyncio.to_thread((tmp_path / "end").write_text, "")
            assert await sending == 200
        assert await asyncio.to_thread(process.wait) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _wait_for(lines: Iterator[str], text: str) -> None:
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} is not among {seen}")


def _needed(names: set[str]) -> dict[str, Distribution]:
    """The distributions that these need, without extras."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found[name] = distribution(name)
        extras = requirement.extras or {""}
        for text in found[name].requires or ():
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(one)
    return found


@pytest.fixture(scope="module")
def core() -> dict[str, Distribution]:
    """The names of all distributions that the core needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return _needed(set(project["dependencies"]))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, core: dict[str, Distribution]) -> Path:
    """The Python of an environment with the wheel, and only what its core needs."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder / "bare"))
    python = folder / "bare" / "bin" / "python"
    install = ("-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps")
    _run(sys.executable, *install, str(wheel))
    (site,) = (folder / "bare" / "lib").glob("python*/site-packages")
    for one in core.values():
        tops = {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "bin")}
        for top in tops - {"__pycache__"}:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(str(one.locate_file(top))).resolve())
    return python


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


_EMBEDDED = """
import asyncio, json, sys
from aiohttp.test_utils import TestClient, TestServer
import orchestrator
from orchestrator import Extension, HandlerRegistry, create_app, open_orchestrator
from orchestrator import testing

registry = HandlerRegistry()

@registry.on("GREETING")
async def greet(event, run):
    await run.step("greet", lambda: _greet())

async def _greet():
    return "hello"

async def main():
    extension = Extension(registry=registry)
    seen = {}
    async with TestClient(TestServer(create_app(extension=extension), host="127.0.0.1")) as client:
        for path in ("/docs", "/openapi.json", "/metrics", "/healthz", "/runs"):
            answer = await client.get(path)
            seen[path] = [answer.status, (await answer.text())[:300]]
        answer = await client.post("/events/GREETING", json={})
        seen["event"] = answer.status
    async with open_orchestrator(extension=extension) as own:
        await own.handle_event("GREETING", {})
    for name in orchestrator.__all__:
        getattr(orchestrator, name)
    print(json.dumps(seen))

asyncio.run(main())
"""


def test_the_core_runs_alone(bare: Path) -> None:
    """The core alone handles events over HTTP and as a library without a warning; a part of the
    extra names the extra to install."""
    seen = json.loads(_run(str(bare), "-W", "error", "-c", _EMBEDDED).splitlines()[-1])
    assert (seen["event"], seen["/healthz"][0], seen["/runs"][0]) == (200, 200, 200)
    assert seen["/metrics"][0] == 404
    for path in ("/docs", "/openapi.json"):
        status, text = seen[path]
        assert status == 501
        assert "pip install 'saas-orchestrator[service]'" in text


def test_the_command_line_names_its_extra(bare: Path) -> None:
    """The command line without its extra is one sentence, and no traceback."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [str(bare.with_name("orchestrator")), "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the command line needs the package click: "
        "pip install 'saas-orchestrator[service]'\n"
    )


def test_the_docs_state_how_much_an_embedder_installs(core: dict[str, Distribution]) -> None:
    """An embedder installs at most as many distributions as the docs state, including the service's
    own."""
    page = (ROOT / "docs" / "embedding.md").read_text()
    (stated,) = re.findall(r"(\d+) distributions", page)
    assert len(core) + 1 <= int(stated), sorted(core)
