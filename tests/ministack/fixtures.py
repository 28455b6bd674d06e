"""The fixture `ministack`; `tests/conftest.py` imports it, so that every test may use it."""

import os
from collections.abc import Iterator

import pytest

from tests.dynamodb_local.fixtures import REQUIRE_ALL
from tests.ministack.server import MissingTool, running_ministack


@pytest.fixture(scope="module")
def ministack() -> Iterator[str]:
    """The URL of an empty AWS for a module's tests."""
    try:
        with running_ministack() as url:
            yield url
    except MissingTool as missing:
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
