"""The inputs that the script which builds the image refuses; a build takes minutes, and isn't run
here."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "build-image.sh"


def build(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603
        [str(SCRIPT)],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "base", ["python:3.13-slim-bookworm", "python@sha256:12", "python@sha256:" + "g" * 64]
)
def test_a_base_without_a_digest_is_refused(base: str) -> None:
    """A base without a digest is refused before anything is built."""
    done = build(BASE_IMAGE=base)
    assert done.returncode == 2
    assert f"BASE_IMAGE is {base}: name it by its digest" in done.stderr


def test_the_base_must_be_named() -> None:
    """The base must be named, since a default would become outdated."""
    done = build()
    assert done.returncode != 0
    assert "set BASE_IMAGE to an image by its digest" in done.stderr


def test_it_is_a_valid_script() -> None:
    """The script is valid for bash's own parser."""
    done = subprocess.run(  # noqa: S603
        ["/bin/bash", "-n", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
