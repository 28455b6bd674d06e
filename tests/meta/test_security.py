"""SECURITY.md: each threat has a test, and what is named exists."""

import re
from pathlib import Path

import pytest

from tests.meta.test_operations import SECTIONS, SETTINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}
THREATS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE[PAGE.index("## Threats") : PAGE.index("## Left to you")].splitlines()
    if line.startswith("| ") and not line.startswith(("| **", "| ---", "| what could"))
]


def test_there_are_threats() -> None:
    """The table of threats is read."""
    assert len(THREATS) > 20


@pytest.mark.parametrize("row", THREATS, ids=lambda row: str(row[0])[:40])
def test_each_threat_has_a_test_that_exists(row: list[str]) -> None:
    """What could go wrong, what stops it, which test shows it."""
    assert len(row) == 3
    named = set(re.findall(r"`(test_\w+)`", row[2]))
    assert named
    assert named - TESTS == set()


def test_settings_and_links_exist() -> None:
    """Each `section.key` and each page that is named exists."""
    for section, key in re.findall(r"`(\w+)\.(\w+)`", PAGE):
        if section in SECTIONS:
            assert f"{section}.{key}" in SETTINGS
    for path in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (ROOT / path).exists(), path
