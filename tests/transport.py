"""The transports to AWS in tests."""

import os
from typing import Any

from orchestrator.adapters.aws import Transport

#: Set to "lean" to run the acceptance and integration tests and the ledger's contract suites on it,
#: as `make lean` does. Small contract suites run on both each time.
TRANSPORT: Any = os.environ.get("ORCHESTRATOR_TESTS_TRANSPORT", "sdk")


def on_transport(*parameters: str) -> list[str]:
    """The parameters of a suite that takes too long to run on both each time."""
    return [name if TRANSPORT == "sdk" else f"{name}, {TRANSPORT}" for name in parameters]


def read_transport(parameter: str) -> tuple[str, Transport]:
    """What a test's parameter such as "moto, lean" names, and the transport to it."""
    name, _, transport = parameter.partition(", ")
    return name, "lean" if transport == "lean" else "sdk"
