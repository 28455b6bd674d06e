"""docs/architecture.md shows the tree as it is, and the core names no builder."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "orchestrator"
PLACES = (PACKAGE, PACKAGE / "adapters", ROOT)
PAGE = (ROOT / "docs" / "architecture.md").read_text()
#: The first column of each row, and the second.
ROWS = re.findall(r"^\| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)
FOLDERS = re.compile(r"`([a-z_]+)/`")
MODULES = re.compile(r"`([a-z_]+\.py)`")

BUILDERS = re.compile(r"code_?build|step.?functions|jenkins", re.IGNORECASE)
#: What the contract fixes: the name of a build's id, the prefix of variables that no job may be
#: given, and a tier's attribute.
FIXED = {
    "events/payloads.py": r"CODEBUILD_BUILD_ID|codebuild_build_id",
    "jobs/plan.py": r"\(\?!CODEBUILD_\)|starting with CODEBUILD_|\bcodebuild\b",
    "handlers/run.py": r"`codebuild`",
}


def tables() -> Iterator[tuple[Path, str, str]]:
    """The rows with the folder that their table is about, which its head names."""
    folder = PACKAGE
    for first, second in ROWS:
        head = re.fullmatch(r"`(\w+)/`", first)
        if head and second.startswith("what it"):
            folder = PACKAGE / head[1]
        elif first in ("room", "to add"):
            folder = PACKAGE
        yield folder, first, second


def named() -> set[str]:
    """The modules that the tables name, from the package on."""
    found = set[str]()
    for folder, first, second in tables():
        rooms = [folder / name for name in FOLDERS.findall(first)]
        found |= {str((folder / name).relative_to(PACKAGE)) for name in MODULES.findall(first)}
        for name in MODULES.findall(second):
            there = [room / name for room in rooms if (room / name).exists()]
            found |= {str(path.relative_to(PACKAGE)) for path in there or [folder / name]}
    return found


def test_the_page_names_every_module_and_no_other() -> None:
    """A new module gets a place on the page, and one that is gone leaves it."""
    there = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert named() == there


def test_what_is_to_be_changed_is_there() -> None:
    """Each path in the table of what to add exists, from the package on or from the repository."""
    table = PAGE.partition("| to add | change |\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| (an? .*?) \| (.*) \|$", table, re.MULTILINE))
    assert list(rows) == ["a builder", "a setting", "a route", "an event type", "an auth method"]
    for change in rows.values():
        paths = re.findall(r"`([a-z_/]+(?:\.py|\.toml|/))`", change)
        assert paths
        assert [one for one in paths if not any((at / one).exists() for at in PLACES)] == []


@pytest.mark.parametrize(
    "room", sorted((PACKAGE / "core").glob("*/__init__.py")), ids=lambda room: room.parent.name
)
def test_each_room_has_a_docstring(room: Path) -> None:
    """Each room's docstring has a few sentences, and the module re-exports nothing."""
    text = room.read_text()
    assert text.startswith('"""')
    assert "import" not in text


def test_the_core_names_no_builder() -> None:
    """It has only the three spellings that the contract fixes, each in its place."""
    core = PACKAGE / "core"
    for path in core.rglob("*.py"):
        fixed = FIXED.get(str(path.relative_to(core)))
        text = re.sub(fixed, "", path.read_text()) if fixed else path.read_text()
        assert BUILDERS.findall(text) == [], path


def test_settings_are_read_from_the_environment_in_one_place() -> None:
    """Besides it, two adapters read the variables of their libraries."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\bos\.(environ|getenv)\b(?!`)", path.read_text())
    }
    assert readers == {"settings/loader.py", "adapters/tracing.py", "adapters/prometheus.py"}


def test_no_test_module_is_too_long_to_read() -> None:
    """A module of the tests has at most 500 lines: beyond that it has more than one topic."""
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert lines
    assert {path: count for path, count in lines.items() if count > 500} == {}
