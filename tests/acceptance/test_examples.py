"""The examples and the README do what they promise."""

import asyncio
import importlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import attrs
import click
import pytest
from structlog.testing import capture_logs

from orchestrator import Extension, HandlerRegistry, Settings, load_settings
from orchestrator.cli.main import commands
from orchestrator.cli.service_process import open_service
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.problems import EVENT_PROBLEMS, STATUSES
from orchestrator.settings import Aws, Operations, StepFunctions, Tiers
from orchestrator.testing import InMemoryPublisher, ManualClock
from tests.acceptance.answers import only_build, read_problem, read_success, variables
from tests.acceptance.ways import http_api_event
from tests.aws import aws_session
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
        # Another folder's module of that name may have been imported before.
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    yield load
    for name in (*imported, "own_builder"):
        sys.modules.pop(name, None)


def test_every_example_has_its_test() -> None:
    """Each example is listed here, so that a new one gets its test."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "application_plane",
        "handler_and_builder",
        "lifespan_database",
        "mounted",
        "on_lambda",
        "own_builder",
        "own_orchestrator",
        "own_tiers",
        "registration",
        "smallest_handler",
        "test_own_builder",
        "test_registration",
    }


async def test_the_smallest_handler_greets(example: Any, start_service: StartService) -> None:
    """The handler logs the name that was sent; a greeting without a name is 422."""
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
    """Run by the command in the example's docstring, an event or a tier chooses the builder, which
    runs the script once for each event."""
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


async def test_a_handler_runs_its_job_on_its_own_builder(
    example: Any,
    start_service: StartService,
    clock: ManualClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Handler and builder of one extension run a job: a duplicate starts nothing, and the run shows
    how the job ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "back-up.sh").write_text('echo "no room for $DATABASE"; exit 1\n')
    module = example("handler_and_builder")
    service = await start_service(extension=module.extension)
    body = {"tenantId": "bluebird", "database": "main"}
    for _ in range(2):
        answer = await service.post("/events/BACKUP_REQUESTED", json=body)
        await read_success(answer)
    ((_, process),) = module.shell.processes.items()
    await process.wait()
    clock.turn(61)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    run = await (await service.get(answer.headers["Location"])).json()
    assert run["note"].startswith("A backup of main was started. ")
    assert "no room for main" in run["note"]


def _read(pipe: Path) -> str:
    return pipe.read_text()


async def test_the_mounted_app_signs_up(
    example: Any, monkeypatch: pytest.MonkeyPatch, aiohttp_client: Any, codebuild: CodeBuildStandIn
) -> None:
    """The app's own route provisions a tenant, and the service's pages are under the prefix."""
    monkeypatch.setenv("ORCHESTRATOR_TIERS__BACKEND", "static")
    monkeypatch.setenv("ORCHESTRATOR_TIERS__STATIC", json.dumps(TIERS))
    shop: Client = await aiohttp_client(example("mounted").create_shop())
    answer = await shop.post("/sign-up", json={"company": "bluebird", "plan": "STANDARD"})
    assert await answer.json() == {"welcome": "bluebird"}
    build = only_build(codebuild)
    assert json.loads(variables(build)["tenant"])["id"] == "bluebird"
    async with shop.get("/tenants-api/docs") as page:
        assert page.status == 200


async def test_tenants_do_not_change_during_a_freeze(
    example: Any,
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """During the freeze a provisioning is 503, with the freeze's end as `Retry-After`."""
    monkeypatch.chdir(tmp_path)
    ends = datetime.now(UTC) + timedelta(hours=1)
    (tmp_path / "freeze.json").write_text(json.dumps({"ends": ends.isoformat()}))
    service = await start_service(extension=example("own_orchestrator").extension)
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    frozen = await service.post("/events/TENANT_PROVISIONING", json=body)
    assert (await read_problem(frozen, 503))["detail"] == "Tenants don't change during the freeze."
    assert 3000 < int(frozen.headers["Retry-After"]) <= 3600
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    (tmp_path / "freeze.json").unlink()
    await read_success(await service.post("/events/TENANT_PROVISIONING", json=body))
    assert only_build(codebuild).project == "standard-tenant"


async def test_the_database_is_open_while_the_service_is(
    example: Any, start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler writes to the database that the lifespan opens, and the last event counts."""
    monkeypatch.chdir(tmp_path)
    service = await start_service(extension=example("lifespan_database").extension)
    for seats in (3, 5):
        body = {"tenantId": "bluebird", "seats": seats}
        await read_success(await service.post("/events/SEATS_CHANGED", json=body))
    with closing(sqlite3.connect(tmp_path / "seats.db")) as database:
        assert list(database.execute("select * from seats")) == [("bluebird", 5)]


def test_the_lambda_function_handles_an_event() -> None:
    """The module's `handler`, imported as Lambda does, handles a request of an HTTP API."""
    event = http_api_event(
        "POST",
        "/events/INVOICE_PAID",
        headers={"Content-Type": "application/json"},
        body=b'{"number": "7"}',
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _INVOKE],
        env={**os.environ, "ORCHESTRATOR_LEDGER__BACKEND": "memory"},
        cwd=EXAMPLES,
        input=json.dumps(event),
        capture_output=True,
        text=True,
        check=True,
    )
    answer, logged = json.loads(done.stdout.splitlines()[-1]), done.stderr
    assert answer["statusCode"] == 200
    assert '"event":"paid"' in logged.replace(": ", ":")


_INVOKE = """
import json, sys, types
import on_lambda
context = types.SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)
print(json.dumps(on_lambda.handler(json.load(sys.stdin), context)))
"""


async def test_the_application_plane_answers_the_toolkit(
    example: Any, start_service: StartService, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """An onboarding request starts its tier's build, and its end is published; a tier that is
    closed is refused."""
    settings = load_settings(EXAMPLES / "application_plane.toml", environ={})
    assert settings.extension == "application_plane:registry"
    codebuild.add_project("provision-pooled-tenant")
    publisher = InMemoryPublisher()
    service = await start_service(
        attrs.evolve(
            settings,
            ledger=IN_MEMORY,
            intake=PATIENT,
            operations=Operations(reconcile_every_s=0),
        ),
        extension=Extension(registry=example("application_plane").registry),
        publisher=publisher,
    )
    request = json.loads((ROOT / "tests/samples/sbt_onboarding_request.json").read_text())
    await read_success(await service.post("/events", json=request))
    build = only_build(codebuild)
    assert build.project == "provision-pooled-tenant"
    assert variables(build)["tenantName"] == "Harbour Books"
    codebuild.finish(build.id, "SUCCEEDED")
    clock.turn(61)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert "sbt_aws_provisionSuccess" in [one["detail-type"] for one in publisher.published]
    closed = {**request, "id": "another", "detail": {**request["detail"], "tier": "STANDARD"}}
    closed["detail"] |= {"tenantId": "t-2", "tenantRegistrationId": "r-2"}
    refused = await read_problem(await service.post("/events", json=closed), 422)
    assert "STANDARD is closed" in refused["detail"]


MACHINES = EXAMPLES / "step_functions"


def test_each_state_machine_is_named_in_the_settings() -> None:
    """Each state machine is in the settings, passes its execution's name, which is the start key,
    to its task, and names existing states only."""
    settings = load_settings(MACHINES / "settings.toml", environ={})
    definitions = {
        path.name.removesuffix(".asl.json").replace("_", "-"): json.loads(path.read_text())
        for path in MACHINES.glob("*.asl.json")
    }
    machines = settings.builders.step_functions.state_machines
    assert definitions.keys() == machines.keys()
    assert {tier["jobIdentifier"] for tier in settings.tiers.static.values()} == machines.keys()
    for name, definition in definitions.items():
        states = definition["States"]
        assert definition["StartAt"] in states, name
        assert "$$.Execution.Name" in json.dumps(definition), name
        following = {state["Next"] for state in states.values() if "Next" in state}
        assert following <= states.keys(), name


async def test_an_ecs_task_is_started_and_waited_for(
    ministack: str, start_service: StartService, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event, sent twice, starts one execution with one task, and the tenant is provisioned once
    the task has stopped."""
    settings = load_settings(MACHINES / "settings.toml", environ={})
    definition = (MACHINES / "ecs_task.asl.json").read_text()
    session = aws_session()
    async with (
        session.client("ecs", endpoint_url=ministack) as ecs,
        session.client("stepfunctions", endpoint_url=ministack) as states,
    ):
        await ecs.create_cluster(clusterName="tenant-builds")
        await ecs.register_task_definition(
            family="tenant-build", containerDefinitions=[{"name": "build", "image": "build"}]
        )
        role = "arn:aws:iam::000000000000:role/states"
        made = await states.create_state_machine(
            name="ecs-task", definition=definition, roleArn=role
        )
        machine = made["stateMachineArn"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", ministack)
        machines = StepFunctions(state_machines={"ecs-task": machine})
        service = await start_service(
            attrs.evolve(
                settings,
                ledger=IN_MEMORY,
                intake=PATIENT,
                operations=Operations(reconcile_every_s=0),
                builders=attrs.evolve(settings.builders, step_functions=machines),
                aws=Aws(connect_timeout_s=10.0, read_timeout_s=30.0),
            )
        )
        body = {"tenantId": "t-1", "tier": "BASIC"}
        for _ in range(2):
            await read_success(await service.post("/events/TENANT_PROVISIONING", json=body))
        (execution,) = (await states.list_executions(stateMachineArn=machine))["executions"]
        async with asyncio.timeout(60):
            while not (tasks := (await ecs.list_tasks(cluster="tenant-builds"))["taskArns"]):
                pass
            (task,) = (await ecs.describe_tasks(cluster="tenant-builds", tasks=tasks))["tasks"]
            (container,) = task["overrides"]["containerOverrides"]
            passed = {one["name"]: one["value"] for one in container["environment"]}
            assert passed["ORCHESTRATOR_RUN_ID"] == execution["name"]
            assert json.loads(passed["VARIABLES"])["tier"] == "BASIC"
            await ecs.stop_task(cluster="tenant-builds", task=tasks[0])
            state = None
            while state != "provisioned":
                clock.turn(61)
                assert (await service.post("/events/RECONCILE", json={})).status == 200
                state = (await (await service.get("/tenants/t-1")).json())["state"]


def test_the_readme_has_code() -> None:
    """The README has one block of Python, which the next test runs."""
    assert len(CODE) == 1


@pytest.mark.parametrize("code", CODE)
async def test_the_readmes_code_runs(
    code: str,
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The README's handler starts the tier's job for a registration, and a misfit is 422 with its
    path."""
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
    """The names that each block of Python in a page of the docs defines, run on its own."""
    text = (ROOT / "docs" / name).read_text()
    spaces = []
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        space: dict[str, Any] = {"__name__": "docs"}
        exec(compile(code, name, "exec"), space)  # noqa: S102 - our own docs
        spaces.append(space)
    return spaces


async def test_the_wrapping_handler_of_the_docs_refuses_and_delegates(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """A tenant that hasn't paid is refused; another is provisioned by the built-in handler."""
    (wrapping,) = in_docs("extending.md")
    service = await start_service(extension=Extension(registry=wrapping["registry"]))
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    unpaid = await service.post("/events/TENANT_PROVISIONING", json={**body, "unpaid": True})
    assert (await read_problem(unpaid, 422))["detail"] == "Pay first."
    await read_success(await service.post("/events/TENANT_PROVISIONING", json=body))
    assert only_build(codebuild).project == "standard-tenant"


async def test_the_library_call_of_the_docs_starts_a_build(
    codebuild: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library call of the docs starts a build without a web server."""
    monkeypatch.setenv("ORCHESTRATOR_TIERS__BACKEND", "static")
    monkeypatch.setenv("ORCHESTRATOR_TIERS__STATIC", json.dumps(TIERS))
    _, calling = in_docs("embedding.md")
    await calling["provision"]("t-1")
    assert only_build(codebuild).project == "standard-tenant"


async def test_the_simulation_of_the_docs_gives_up_nothing(
    codebuild: CodeBuildStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The simulated events of the docs reach the service that it makes, and none is given up."""
    monkeypatch.setenv("ORCHESTRATOR_TIERS__BACKEND", "static")
    monkeypatch.setenv("ORCHESTRATOR_TIERS__STATIC", json.dumps(TIERS))
    *_, simulating = in_docs("testing.md")
    await simulating["nothing_is_given_up"]()
    assert "[]" in capsys.readouterr().out.splitlines()  # a sweep may log after it
    assert only_build(codebuild).project == "standard-tenant"


def readme_statuses() -> dict[int, str]:
    """The README's table of answers: what EventBridge does with each status."""
    table = README.partition("## The answers")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {int(status): row[-1] for row in rows for status in re.findall(r"\b\d{3}\b", row[0])}


def test_the_readmes_statuses_are_the_services() -> None:
    """The table has each status that an error becomes, except 404 of a read by id, and no status
    that an event isn't answered with."""
    statuses = readme_statuses()
    assert {int(status) for _, status in STATUSES} - {404} <= statuses.keys()
    assert statuses.keys() - {200, 202} <= EVENT_PROBLEMS.keys()
    assert EVENT_PROBLEMS.keys() <= statuses.keys()


def test_the_readme_states_which_statuses_eventbridge_retries() -> None:
    """By the table EventBridge retries after 401, 429 and 5xx, and gives up after another 4xx."""
    for status, does in readme_statuses().items():
        again = status in (401, 429) or status >= 500
        expected = "done" if status < 300 else "retries" if again else "gives up"
        assert does.startswith(expected), status


def test_the_readmes_commands_exist() -> None:
    """Each `orchestrator …` of the README exists with its options, and so does each `make …`."""
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
