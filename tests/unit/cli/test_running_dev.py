"""The note of a running `dev`: which command finds it, and which note is ignored."""

import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from orchestrator.cli.running_dev import (
    RunningDev,
    find_dev_to_ask,
    find_running_dev,
    noted,
    variables_of,
)

DEV = RunningDev(
    pid=os.getpid(),
    url="http://127.0.0.1:8080",
    config="/etc/local.toml",
    app_dir=None,
    queue_url="http://127.0.0.1:9/1/events",
    environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "it's"},
)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def note(environ: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    with noted(DEV, environ):
        yield tmp_path / "saas-orchestrator" / "dev.json"


def test_a_running_dev_is_found_until_it_ends(environ: dict[str, str]) -> None:
    """The note is its user's alone, and goes with it."""
    assert find_running_dev(environ) is None
    with noted(DEV, environ):
        assert find_running_dev(environ) == find_dev_to_ask(environ) == DEV
        folder = Path(environ["XDG_RUNTIME_DIR"], "saas-orchestrator")
        assert [path.name for path in folder.iterdir()] == ["dev.json"]
        assert (folder.stat().st_mode, (folder / "dev.json").stat().st_mode) == (0o40700, 0o100600)
    assert find_running_dev(environ) is None


def test_without_a_runtime_folder_it_is_in_the_cache(tmp_path: Path) -> None:
    """The note is kept in the cache folder, as on macOS."""
    environ = {"HOME": str(tmp_path)}
    with noted(DEV, environ):
        assert find_running_dev(environ) == DEV
        assert (tmp_path / ".cache" / "saas-orchestrator" / "dev.json").exists()


def test_a_folder_that_cant_be_written_keeps_no_dev_from_running(tmp_path: Path) -> None:
    """It runs all the same, and is only not found."""
    (tmp_path / "file").touch()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "file")}
    with noted(DEV, environ):
        assert find_running_dev(environ) is None


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**80])
def test_a_note_of_an_ended_process_is_passed_over(environ: dict[str, str], pid: int) -> None:
    """A dev that was killed leaves its note behind."""
    with noted(attrs.evolve(DEV, pid=pid), environ):
        assert find_running_dev(environ) is None


@pytest.mark.parametrize("text", ["", "{}", "[", '{"pid": "1"}', "null"])
def test_an_unreadable_note_is_skipped(note: Path, environ: dict[str, str], text: str) -> None:
    """Another release may have written it."""
    note.write_text(text)
    assert find_running_dev(environ) is None


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_note_that_others_may_write_is_ignored(
    note: Path, environ: dict[str, str], mode: int
) -> None:
    """They could have events and keys sent to them."""
    note.chmod(mode)
    assert find_running_dev(environ) is None


def test_the_later_of_two_is_found_and_the_earlier_leaves_it(environ: dict[str, str]) -> None:
    """The end of one dev doesn't hide the other."""
    other = attrs.evolve(DEV, pid=os.getppid(), url="http://127.0.0.1:8081")
    first = noted(DEV, environ)
    with first, noted(other, environ):
        first.__exit__(None, None, None)
        assert find_running_dev(environ) == other


@pytest.mark.parametrize(
    "name",
    [
        "ORCHESTRATOR_CONFIG",
        "ORCHESTRATOR_LEDGER__TABLE",
        "ORCHESTRATOR__EXTENSION",
        "TIER_DETAILS_TABLE",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_ENDPOINT_URL",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ],
)
@pytest.mark.usefixtures("note")
def test_commands_with_settings_or_an_aws_of_their_own_do_not_use_dev(
    environ: dict[str, str], name: str
) -> None:
    """Commands that call AWS call the one that the user means."""
    assert find_dev_to_ask({**environ, name: "mine"}) is None
    assert find_running_dev({**environ, name: "mine"}) == DEV


@pytest.mark.usefixtures("note")
@pytest.mark.parametrize("name", ["ORCHESTRATOR_HEADER", "AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_region_or_a_header_chooses_none(environ: dict[str, str], name: str) -> None:
    """They are in many a profile, and mean no service."""
    assert find_dev_to_ask({**environ, name: "us-east-1"}) == DEV


def test_the_variables_are_quoted_for_a_shell() -> None:
    """The variables are quoted, and name the settings and the queue."""
    said = variables_of(DEV)
    assert """export AWS_ACCESS_KEY_ID='it'"'"'s'""" in said
    assert "export ORCHESTRATOR_CONFIG=/etc/local.toml" in said
    assert "export ORCHESTRATOR_INTAKE__QUEUE_URL=http://127.0.0.1:9/1/events" in said
