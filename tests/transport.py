"""The transports to AWS in tests."""

import os
from typing import Any

from orchestrator.adapters.aws import Transport

#: Set to "lean" to run the acceptance and integration tests on it. The contract suites run on both.
TRANSPORT: Any = os.environ.get("ORCHESTRATOR_TESTS_TRANSPORT", "sdk")


def read_transport(parameter: str) -> tuple[str, Transport]:
    """What a test's parameter such as "moto, lean" names, and the transport to it."""
    name, _, transport = parameter.partition(", ")
    return name, "lean" if transport == "lean" else "sdk"
