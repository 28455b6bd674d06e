"""The fixture `dynamodb_local`; `tests/conftest.py` imports it, so that every test may use it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.dynamodb_local.server import MissingTool, running_dynamodb_local
from tests.time_limit import time_limit_paused

#: Set to 1 where no test may be skipped: then a missing tool fails the tests.
REQUIRE_ALL = "ORCHESTRATOR_TESTS_REQUIRE_ALL"


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """The URL of an empty DynamoDB Local; each test creates tables of its own."""
    with ExitStack() as stack:
        try:
            with time_limit_paused():  # the fetch has a limit of its own
                url = stack.enter_context(running_dynamodb_local())
        except MissingTool as missing:
            reason = str(missing)
        else:
            yield url
            return
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
