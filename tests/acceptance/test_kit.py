"""The test kit as its users run it: by a pytest for which each warning is an error."""

import importlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Settings, SettingsError, load_settings
from orchestrator.cli.new import write_starter
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.embedded.aws import SAMPLE_TIERS
from orchestrator.settings import Tiers
from tests.acceptance.answers import read_success
from tests.conftest import StartService

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
STRICT = """
[pytest]
asyncio_default_fixture_loop_scope = function
asyncio_mode = {mode}
filterwarnings = error
"""


def run_pytest(folder: Path, *, mode: str | None = None) -> str:
    """Run a user's tests, which must pass; returns the summary. With `mode` None the existing
    settings apply."""
    if mode is not None:
        (folder / "pytest.ini").write_text(STRICT.format(mode=mode))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


STARTER = {"Dockerfile", "handlers.py", "pytest.ini", "settings.toml", "test_handlers.py"}


def run_new(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "orchestrator", "new", str(folder)]
    return subprocess.run(  # noqa: S603 - our own interpreter
        command, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_examples_tests_pass(tmp_path: Path, mode: str) -> None:
    """The tests of the example's handler and builder pass in either mode of pytest-asyncio."""
    for example in EXAMPLES.glob("*.py"):
        (tmp_path / example.name).write_text(example.read_text())
    # The example's builder has start_job, find_job and describe_jobs.
    assert run_pytest(tmp_path, mode=mode).startswith("19 passed, 7 skipped")


def test_the_tests_of_the_docs_pass(tmp_path: Path) -> None:
    """Each block of docs/testing.md passes as a module of its own, with the page's lines of
    pytest.ini and every warning an error; the last is for a running service."""
    text = (ROOT / "docs" / "testing.md").read_text()
    handler, builder, _ = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (ini,) = re.findall(r"^```ini\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "pytest.ini").write_text(f"{ini}filterwarnings = error\n")
    (tmp_path / "test_handler.py").write_text(handler)
    (tmp_path / "test_builder.py").write_text(builder)
    assert run_pytest(tmp_path).startswith("11 passed, 13 skipped")


def test_the_starters_tests_pass(tmp_path: Path) -> None:
    """The starter's tests pass, and its handler is served by the settings that are written beside
    it."""
    folder = tmp_path / "mine"
    done = run_new(folder)
    assert done.returncode == 0, done.stderr
    assert "orchestrator dev --extension handlers:registry" in done.stdout
    assert {path.name for path in folder.iterdir()} == STARTER
    assert run_pytest(folder).startswith("2 passed")
    settings = load_settings(folder / "settings.toml", environ={})
    assert settings.extension == "handlers:registry"


def test_the_starters_image_is_for_production(tmp_path: Path) -> None:
    """The starter's image refuses to start without authentication or with a ledger in memory; with
    both set it is reachable from outside of its container."""
    write_starter(tmp_path)
    image = dict(re.findall(r"\b(ORCHESTRATOR_\w+)=(\S+)", (tmp_path / "Dockerfile").read_text()))
    config = tmp_path / Path(image["ORCHESTRATOR_CONFIG"]).name
    with pytest.raises(SettingsError, match=r"auth\.methods"):
        load_settings(config, environ={**image, "ORCHESTRATOR_LEDGER__BACKEND": "dynamodb"})
    image["ORCHESTRATOR_AUTH__ALLOW_OPEN"] = "true"
    with pytest.raises(SettingsError, match=r"ledger\.backend"):
        load_settings(config, environ=image)
    settings = load_settings(config, environ={**image, "ORCHESTRATOR_LEDGER__BACKEND": "dynamodb"})
    assert (settings.environment, settings.http.host) == ("production", "0.0.0.0")  # noqa: S104


@pytest.mark.parametrize("tier", SAMPLE_TIERS, ids=lambda tier: tier["tier"])
async def test_the_starters_handler_runs_on_dev(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tier: Mapping[str, Any],
) -> None:
    """The starter's handler runs on `dev` with each of its tiers, whichever of the two names its
    job has."""
    write_starter(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "handlers", raising=False)
    handlers = importlib.import_module("handlers")
    monkeypatch.delitem(sys.modules, "handlers")
    service = await start_service(
        attrs.evolve(settings, tiers=Tiers(backend="static", static={"PLAN": dict(tier)})),
        extension=Extension(registry=handlers.registry),
    )
    codebuild.add_project(tier.get("jobName") or tier["jobIdentifier"])
    body = {"tenantId": "bluebird", "email": "ada@bluebird.example", "plan": "PLAN"}
    await read_success(await service.post("/events/TENANT_REGISTRATION", json=body))
    assert len(codebuild.builds) == 1


def test_a_starter_overwrites_nothing(tmp_path: Path) -> None:
    """An existing file of one of the starter's names is an error that names it."""
    mine = tmp_path / "settings.toml"
    mine.write_text("mine")
    done = run_new(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"Error: There is {mine} already: choose another folder.\n"
    assert (mine.read_text(), len(list(tmp_path.iterdir()))) == ("mine", 1)


def test_a_run_that_stays_due_is_an_error_with_its_reason(tmp_path: Path) -> None:
    """A run whose handler always fails temporarily is an error of the kit, with the reason."""
    (tmp_path / "test_stuck.py").write_text(
        """
import pytest
from orchestrator import Extension, HandlerRegistry, JobStatus, TemporaryError

pytest_plugins = ["orchestrator.testing.plugin"]
registry = HandlerRegistry()

@registry.on("STUCK")
async def stuck(event, run):
    raise TemporaryError("the shop is closed")

@pytest.fixture
def orchestrator_extension():
    return Extension(registry=registry)

async def test_stuck(orchestrator_app, settle_all):
    await orchestrator_app.post("/events/STUCK", json={})
    with pytest.raises(AssertionError, match="the run of STUCK: the shop is closed"):
        await settle_all()

async def test_failed(orchestrator_app, settle_all):
    body = {"tenantId": "t-1", "tier": "BASIC"}
    await orchestrator_app.post("/events/TENANT_PROVISIONING", json=body)
    await settle_all(JobStatus.FAILED)
    answer = await orchestrator_app.get("/tenants/t-1")
    assert (await answer.json())["state"] == "provision_failed"
"""
    )
    assert run_pytest(tmp_path, mode="auto").startswith("2 passed")
