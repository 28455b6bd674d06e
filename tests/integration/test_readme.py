"""The README line by line, as a reader runs it: the install, the handler on `dev`, each command."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from orchestrator.cli.dev import own_command
from tests.integration.test_dev import Dev, environment, open_dev

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: Need AWS, another Python environment or a container engine; `tests/acceptance/test_examples.py`
#: checks that they exist.
ELSEWHERE = re.compile(r"make |python3|pip |docker |orchestrator (init|serve|worker|dev)\b")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def lines() -> list[str]:
    """The commands of all blocks, in their order."""
    return [line for block in blocks("console") for line in block.splitlines()]


async def run(line: str, *, path: Path, home: Path) -> str:
    """Run a line in a shell that has a folder on its PATH; returns its output."""
    own = environment(home)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        line,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**own, "PATH": f"{path}{os.pathsep}{own['PATH']}"},
        cwd=home,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{line}\n{out.decode()}"
    return out.decode()


async def test_the_handler_of_the_readme_runs_on_dev_by_its_own_commands(tmp_path: Path) -> None:
    """Each line that a laptop can run exits 0, in the order of the page; the handler's run has
    started a build, and the tenant becomes active."""
    (code,) = blocks("python")
    (tmp_path / "handlers.py").write_text(code)
    (starting,) = [line for line in lines() if line.startswith("orchestrator dev")]
    arguments = starting.split()[2:]
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "orchestrator").symlink_to(own_command())
    async with open_dev(
        tmp_path, *arguments, "--build-seconds", "0.1", ends_by=signal.SIGTERM
    ) as dev:
        said = {}
        for line in lines():
            if not ELSEWHERE.match(line):
                said[line] = await run(line, path=scripts, home=tmp_path)
        assert len(said) > 8
        await dev.read_until("The tenant t-1 is active.")
        (registered,) = (await dev.ask("runs", "--type", "TENANT_REGISTRATION"))["items"]
        assert registered["status"] == "succeeded"
        assert registered["job"]["jobIdentifier"] == "basic-tenant"
        (listed,) = [text for line, text in said.items() if "runs --type" in line]
        assert "TENANT_REGISTRATION" in listed
        await assert_that_the_banner_works(dev, tmp_path)


async def assert_that_the_banner_works(dev: Dev, home: Path) -> None:
    """The banner's commands run as the reader copies them, with nothing on the PATH."""
    banner = "".join(dev.said)
    (copied,) = re.findall(r"become active:\n(.*?)\n\n", banner, re.DOTALL)
    # It names the tenant of the README's events: it is a duplicate or refused, never unknown.
    said = await run(copied.replace("t-1", "t-2"), path=Path("/nonexistent"), home=home)
    assert "t-2" in said
    await dev.read_until("The tenant t-2 is active.")
    (variables,) = re.findall(r"^ +(eval .*)$", banner, re.MULTILINE)
    said = await run(f"{variables}; echo $AWS_ENDPOINT_URL", path=Path("/nonexistent"), home=home)
    assert said.startswith("http://127.0.0.1:")


def test_the_banner_has_the_full_path() -> None:
    """The banner has the full path of the command, so that a shell in any folder, with any PATH,
    can run it."""
    assert Path(own_command()).is_absolute()


async def test_the_install_of_the_readme_makes_a_package(tmp_path: Path) -> None:
    """The README's install line makes a package, here without its dependencies, which this
    environment has."""
    (install,) = [line for line in lines() if line.startswith("pip install")]
    assert install == "pip install '.[dev]'"
    target = tmp_path / "installed"
    offline = "--quiet --no-deps --no-index --no-build-isolation --disable-pip-version-check"
    await run(
        f"cd {ROOT} && {sys.executable} -m {install} {offline} --target {target}",
        path=Path("/nonexistent"),
        home=tmp_path,
    )
    where = "import orchestrator, sys; print(orchestrator.__file__); sys.argv = ['', '--version']"
    code = f"{where}; from orchestrator.cli.main import main; main()"
    said = await run(
        f'PYTHONPATH={target} {sys.executable} -c "{code}"', path=Path("/usr/bin"), home=tmp_path
    )
    assert said.startswith(str(target))
    assert (target / "orchestrator" / "config" / "local.toml").exists()
