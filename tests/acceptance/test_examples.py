"""What the examples and the README promise, done as they say."""

import asyncio
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import click
import pytest
from structlog.testing import capture_logs

from orchestrator import Extension, HandlerRegistry, Settings
from orchestrator.cli.main import commands
from orchestrator.cli.service_process import open_service
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.problems import EVENT_PROBLEMS, STATUSES
from orchestrator.settings import Tiers
from tests.acceptance.answers import only_build, read_problem, read_success, variables
from tests.conftest import TIERS, Client, StartService
from tests.ledgers import IN_MEMORY, PATIENT

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import an example as a user's module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    imported: list[str] = []

    def load(name: str) -> Any:
        imported.append(name)
        return importlib.import_module(name)

    yield load
    for name in imported:
        sys.modules.pop(name, None)


def test_every_example_has_its_test() -> None:
    """A new example needs a test here."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "mounted",
        "own_builder",
        "own_tiers",
        "registration",
        "smallest_handler",
        "test_own_builder",
        "test_registration",
    }


async def test_the_smallest_handler_greets(example: Any, start_service: StartService) -> None:
    """It logs the name that was sent; a greeting of nobody is 422."""
    registry: HandlerRegistry = example("smallest_handler").registry
    service = await start_service(extension=Extension(registry=registry))
    with capture_logs() as logs:
        await read_success(await service.post("/events/GREETING", json={"name": "Ada"}))
    assert [line["name"] for line in logs if line["event"] == "hello"] == ["Ada"]
    await read_problem(await service.post("/events/GREETING", json={}), 422)


async def test_own_tiers_are_those_of_the_function(
    example: Any, start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """A tier of the table in the module is provisioned, another one is 422."""
    codebuild.add_project("own-cluster")
    service = await start_service(extension=example("own_tiers").extension)
    path = "/events/TENANT_PROVISIONING"
    await read_success(await service.post(path, json={"tenantId": "t-1", "tier": "TEAM"}))
    build = only_build(codebuild)
    assert (build.project, variables(build)["REPLICAS"]) == ("own-cluster", "3")
    unknown = await service.post(path, json={"tenantId": "t-2", "tier": "BASIC"})
    assert "BASIC" in (await read_problem(unknown, 422))["detail"]


async def test_own_builder_runs_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command in its docstring: an event and a tier choose it, once for one event."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    os.mkfifo(tmp_path / "told")
    script = f'echo "$GREETING $tier $ORCHESTRATOR_RUN_ID" > {tmp_path}/told\n'
    (tmp_path / "scripts" / "hello.sh").write_text(script)
    tiers = {
        "BASIC": {"jobIdentifier": "hello", "GREETING": "hello"},
        "SHELLS": {"jobIdentifier": "nowhere", "builder": "SHELL"},
    }
    environment = {
        "ORCHESTRATOR__EXTENSION": "own_builder:extension",
        "ORCHESTRATOR_LEDGER__BACKEND": "memory",
        "ORCHESTRATOR_INTAKE__DEADLINE_S": "60",
        "ORCHESTRATOR_TIERS__BACKEND": "static",
        "ORCHESTRATOR_TIERS__STATIC": json.dumps(tiers),
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]),
    }
    async with (
        open_service(config="local.toml", environment=environment) as service,
        aiohttp.ClientSession(service.url) as http,
    ):
        path = "/events/TENANT_PROVISIONING"
        chosen = {"tenantId": "t-1", "tier": "BASIC", "builderConfig": {"type": "SHELL"}}
        async with http.post(path, json=chosen) as answer:
            assert answer.status == 200, await answer.text()
            location = answer.headers["Location"]
        greeting, tier, start_key = (await asyncio.to_thread(_read, tmp_path / "told")).split()
        assert (greeting, tier) == ("hello", "BASIC")
        async with http.get(location) as run:
            job = (await run.json())["job"]
        assert (job["builder"], job["jobIdentifier"]) == ("SHELL", "hello")
        assert start_key
        async with http.post(path, json=chosen) as answer:
            assert answer.headers["Idempotent-Replayed"] == "true"
        async with http.post(path, json={"tenantId": "t-2", "tier": "SHELLS"}) as answer:
            assert answer.status == 422
            assert "nowhere.sh" in await answer.text()


def _read(pipe: Path) -> str:
    return pipe.read_text()


async def test_the_mounted_app_signs_up(
    example: Any, monkeypatch: pytest.MonkeyPatch, aiohttp_client: Any, codebuild: CodeBuildStandIn
) -> None:
    """Its own route provisions a tenant; the service's pages are under the prefix."""
    monkeypatch.setenv("ORCHESTRATOR_TIERS__BACKEND", "static")
    monkeypatch.setenv("ORCHESTRATOR_TIERS__STATIC", json.dumps(TIERS))
    shop: Client = await aiohttp_client(example("mounted").create_shop())
    answer = await shop.post("/sign-up", json={"company": "bluebird", "plan": "STANDARD"})
    assert await answer.json() == {"welcome": "bluebird"}
    build = only_build(codebuild)
    assert json.loads(variables(build)["tenant"])["id"] == "bluebird"
    async with shop.get("/tenants-api/docs") as page:
        assert page.status == 200


def test_the_readme_has_code() -> None:
    """Which the next test runs."""
    assert len(CODE) == 1


@pytest.mark.parametrize("code", CODE)
async def test_the_readmes_code_runs(
    code: str,
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its handler starts the tier's job for a registration, and a misfit is 422 with its path."""
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(code, "README.md", "exec"), module.__dict__)  # noqa: S102 - our own README
    extension = Extension(registry=module.registry)
    service = await start_service(
        Settings(ledger=IN_MEMORY, intake=PATIENT, tiers=Tiers(backend="static", static=TIERS)),
        extension=extension,
    )
    path = "/events/TENANT_REGISTRATION"
    sent = {"email": "ada@bluebird.example", "plan": "STANDARD"}
    await read_success(await service.post(path, json=sent))
    build = only_build(codebuild)
    assert (build.project, variables(build)["EMAIL"]) == ("standard-tenant", sent["email"])
    misfit = await read_problem(await service.post(path, json={"plan": 1}), 422)
    assert {error["path"] for error in misfit["errors"]} == {"$.email", "$.plan"}


def in_docs(name: str) -> list[dict[str, Any]]:
    """What the blocks of Python in a page of the docs define, each run on its own."""
    text = (ROOT / "docs" / name).read_text()
    spaces = []
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        space: dict[str, Any] = {"__name__": "docs"}
        exec(compile(code, name, "exec"), space)  # noqa: S102 - our own docs
        spaces.append(space)
    return spaces


async def test_the_wrapped_handler_of_the_docs_refuses_and_hands_on(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """Who hasn't paid gets nothing; who has is provisioned as ever."""
    wrapping, _ = in_docs("extending.md")
    service = await start_service(extension=Extension(registry=wrapping["registry"]))
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    unpaid = await service.post("/events/TENANT_PROVISIONING", json={**body, "unpaid": True})
    assert (await read_problem(unpaid, 422))["detail"] == "Pay first."
    await read_success(await service.post("/events/TENANT_PROVISIONING", json=body))
    assert only_build(codebuild).project == "standard-tenant"


async def test_the_library_call_of_the_docs_starts_a_build(
    codebuild: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any web server."""
    monkeypatch.setenv("ORCHESTRATOR_TIERS__BACKEND", "static")
    monkeypatch.setenv("ORCHESTRATOR_TIERS__STATIC", json.dumps(TIERS))
    _, calling = in_docs("extending.md")
    await calling["provision"]("t-1")
    assert only_build(codebuild).project == "standard-tenant"


async def test_the_simulation_of_the_docs_gives_up_nothing(
    codebuild: CodeBuildStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its events reach the service that it makes."""
    monkeypatch.setenv("ORCHESTRATOR_TIERS__BACKEND", "static")
    monkeypatch.setenv("ORCHESTRATOR_TIERS__STATIC", json.dumps(TIERS))
    *_, simulating = in_docs("testing.md")
    await simulating["nothing_is_given_up"]()
    assert capsys.readouterr().out.splitlines()[-1] == "[]"
    assert only_build(codebuild).project == "standard-tenant"


def readme_statuses() -> dict[int, str]:
    """The README's table of answers: what EventBridge does with each status."""
    table = README.partition("## The answers")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {int(status): row[-1] for row in rows for status in re.findall(r"\b\d{3}\b", row[0])}


def test_the_readmes_statuses_are_the_services() -> None:
    """Each that an error turns into is in the table, and none that an event isn't answered: what
    isn't found was asked for by its id."""
    told = readme_statuses()
    assert {int(status) for _, status in STATUSES} - {404} <= told.keys()
    assert told.keys() - {200, 202} <= EVENT_PROBLEMS.keys()
    assert EVENT_PROBLEMS.keys() <= told.keys()


def test_the_readme_says_what_eventbridge_does() -> None:
    """It retries after 401, 429 and 5xx, and gives up after another 4xx."""
    for status, does in readme_statuses().items():
        again = status in (401, 429) or status >= 500
        expected = "done" if status < 300 else "retries" if again else "gives up"
        assert does.startswith(expected), status


def test_the_readmes_commands_exist() -> None:
    """Each `orchestrator …` with its options, each `make …`."""
    consoles = "\n".join(re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^orchestrator (\w+)([^#\n]*)", consoles, re.MULTILINE)
    assert lines
    for name, rest in lines:
        assert name in commands.commands
        known = {
            option
            for parameter in commands.commands[name].params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        assert set(re.findall(r"--[a-z-]+", rest)) <= known
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
