"""The requirements name exact files by their hashes, and nowhere to get them from."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = sorted((Path(__file__).parents[2] / "requirements").glob("*.txt"))
_PINNED = re.compile(
    r"[\w.-]+(\[[\w,-]+\])?==[\w.+!-]+( ; [^;]+)?( --hash=sha256:[0-9a-f]{64})+",
)


def requirements(file: Path) -> list[str]:
    """The file's requirements, each on one line, without comments."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def test_there_are_requirements() -> None:
    """There is a file for the image and one for developers, and none is empty."""
    assert {"dev.txt", "runtime.txt"} <= {file.name for file in REQUIREMENTS}
    assert all(requirements(file) for file in REQUIREMENTS)


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.name)
def test_every_requirement_is_pinned_with_hashes(file: Path) -> None:
    """`pip install --require-hashes` can't be given anything else."""
    assert [line for line in requirements(file) if not _PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.name)
def test_no_address_is_written_down(file: Path) -> None:
    """No index, no URL, no path: where packages come from is configured on the machine."""
    text = file.read_text()
    for option in ("index-url", "find-links", "trusted-host", "://", " @ ", "-e "):
        assert option not in text, option
