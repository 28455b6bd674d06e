"""The log is there for the service, not the service for the log."""

import io
from collections.abc import Iterator

import pytest
import structlog

from orchestrator.logs import configure_logs


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Gone(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_log_that_can_not_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs goes on, and is heard again where there is somebody to hear."""
    for stream in (Gone(), heard := io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        configure_logs(level="info", layout="json", redact=())
        structlog.get_logger("test").info("said")
    assert '"said"' in heard.getvalue()
