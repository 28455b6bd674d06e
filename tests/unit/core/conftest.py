"""What the tests of the core share."""

import pytest

from tests.desk import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()
