"""The package's public names."""

import subprocess
import sys

import pytest

import orchestrator

_LOADED = """
import sys
import orchestrator
from orchestrator import create_app
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("name", orchestrator.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    """What `__all__` promises is there."""
    assert getattr(orchestrator, name) is not None


def test_no_public_name_is_listed_twice() -> None:
    """`__all__` is a sorted set, so that a merge can't double a name."""
    assert len(orchestrator.__all__) == len(set(orchestrator.__all__))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """A misspelt name fails as it does for any module."""
    with pytest.raises(AttributeError, match="create_ap"):
        _ = orchestrator.create_ap


def test_importing_the_package_loads_no_aws() -> None:
    """`import orchestrator` and `create_app` stay quick: no SDK of AWS, no moto."""
    child = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    )
    loaded = set(child.stdout.split())
    assert "orchestrator" in loaded
    assert not loaded & {"boto3", "botocore", "aioboto3", "aiobotocore", "moto", "opentelemetry"}


def test_a_former_name_still_works_and_says_what_it_is_called_now() -> None:
    """For one release, so that nobody's extension breaks with an upgrade."""
    with pytest.warns(DeprecationWarning, match=r"renamed to orchestrator\.JobDescription"):
        assert orchestrator.JobReport is orchestrator.JobDescription
