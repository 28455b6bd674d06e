"""docs/delivery.md names every guard, and only tests that there are."""

import inspect
import re
from pathlib import Path

import pytest

from orchestrator.core.ledger import guards

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "delivery.md").read_text()
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}
GUARDS = [
    name
    for name, function in inspect.getmembers(guards, inspect.isfunction)
    if function.__module__ == guards.__name__
]


@pytest.mark.parametrize("guard", GUARDS)
def test_every_guard_has_its_row(guard: str) -> None:
    """A new guard needs a line that says what goes wrong without it."""
    assert re.search(rf"^\| .*`{guard}`.* \| .* \| `test_", PAGE, re.MULTILINE)


def test_the_tests_that_it_names_are_there() -> None:
    """A test that is renamed must be renamed there, too."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - TESTS == set()
