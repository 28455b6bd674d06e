"""The package's public names."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import orchestrator
import orchestrator.testing
from tests.reference.python_api import PUBLIC

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "embedding.md").read_text()
#: Of the test kit, and used by `orchestrator dev` alone.
FOR_DEV = {"retry_pause_s"}

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


@pytest.mark.parametrize("package", PUBLIC)
def test_the_docs_have_the_public_names(package: ModuleType) -> None:
    """Those of `__all__`, each in one row of docs/embedding.md, and no other."""
    head = f"| `{package.__name__}` | |\n"
    rows = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()[1:]
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    assert sorted(documented) == sorted(package.__all__)


def test_the_test_kit_has_no_public_name_that_is_not_documented() -> None:
    """What a module of `orchestrator.testing` defines under a public name is in the `__all__` of
    the package or its own, and so on the generated page."""
    page = (DOCS / "python-api.md").read_text()
    for found in pkgutil.iter_modules(orchestrator.testing.__path__, "orchestrator.testing."):
        module = importlib.import_module(found.name)
        named = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == found.name
        }
        exported = {*orchestrator.testing.__all__, *getattr(module, "__all__", ())}
        assert named - exported - FOR_DEV == set(), found.name
        assert [one for one in named - FOR_DEV if f".{one}\n" not in page] == []


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
    assert not loaded & {"click", "prometheus_client", "aiohttp_apispec", "pytest"}


def test_a_former_name_still_works_with_a_deprecation_warning() -> None:
    """It works for one release, so that no user's extension breaks with an upgrade."""
    with pytest.warns(DeprecationWarning, match=r"renamed to orchestrator\.JobDescription"):
        assert orchestrator.JobReport is orchestrator.JobDescription
